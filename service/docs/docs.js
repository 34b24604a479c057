// Starts Swagger UI, and has it send and show MessagePack, and numbers as they are.

import { decode, encode, parse, stringify } from "./msgpack.js";

const MSGPACK = "application/msgpack";

function isMessagePack(headers) {
  const name = Object.keys(headers).find((each) => each.toLowerCase() === "content-type");
  return name !== undefined && headers[name].startsWith(MSGPACK);
}

// What is typed is JSON. As a file, the command for curl names it, in the place of bytes that no shell can hold.
function encodeRequest(request) {
  if (typeof request.body === "string" && isMessagePack(request.headers)) {
    request.body = new File([encode(parse(request.body))], "body.msgpack", { type: MSGPACK });
  }
  return request;
}

async function decodeResponse(response) {
  if (response.data instanceof Blob && isMessagePack(response.headers)) {
    const bytes = new Uint8Array(await response.data.arrayBuffer());
    response.text = response.data = bytes.length ? stringify(decode(bytes)) : "";
  }
  return response;
}

function indented(text) {
  try {
    return stringify(parse(text));
  } catch {
    return text;
  }
}

// Swagger UI's own parses numbers as doubles, and so shows other ids than were sent.
function exactNumbers(system) {
  const { React, getComponent } = system;
  const wrap = (ResponseBody) => (props) => {
    if (typeof props.content !== "string" || !/json|msgpack/.test(props.contentType)) {
      return React.createElement(ResponseBody, props);
    }
    const options = { language: "json", downloadable: true, fileName: "response.json", canCopy: true };
    const code = React.createElement(getComponent("HighlightCode", true), options, indented(props.content));
    return React.createElement("div", null, React.createElement("h5", null, "Response body"), code);
  };
  return { wrapComponents: { responseBody: wrap } };
}

window.SwaggerUIBundle({
  domNode: document.getElementById("docs"),
  url: "openapi.json",
  deepLinking: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null, // or a document is sent to a server elsewhere
  plugins: [exactNumbers],
  requestInterceptor: encodeRequest,
  responseInterceptor: decodeResponse,
});
