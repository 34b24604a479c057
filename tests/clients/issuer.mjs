// A certified OpenID provider on loopback: it prints its URL, and issues JWTs to its clients, each by another algorithm.
// POST /rotate signs with new keys, and publishes the old ones beside them; POST /withdraw publishes the new ones alone.
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import Provider from 'oidc-provider';

const ALGORITHMS = { ada: 'RS256', bob: 'ES256', eve: 'EdDSA' };
const KINDS = { RS256: ['rsa', { modulusLength: 2048 }], ES256: ['ec', { namedCurve: 'P-256' }], EdDSA: ['ed25519', {}] };

const generated = () => Object.entries(KINDS).map(([alg, kind]) => (
  { ...generateKeyPairSync(...kind).privateKey.export({ format: 'jwk' }), alg, kid: randomUUID(), use: 'sig' }));

let keys = generated();
let issuer, respond;

function build() {
  const provider = new Provider(issuer, {
    clients: Object.keys(ALGORITHMS).map((name) => ({
      client_id: name, client_secret: name, grant_types: ['client_credentials'], redirect_uris: [], response_types: [],
    })),
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: {
        enabled: true,
        getResourceServerInfo: (_, resource, client) => ({
          scope: 'items:read items:write', audience: resource, accessTokenFormat: 'jwt', accessTokenTTL: 300,
          jwt: { sign: { alg: ALGORITHMS[client.clientId] } },
        }),
      },
    },
    enabledJWA: { idTokenSigningAlgValues: Object.keys(KINDS) },
    jwks: { keys },
    scopes: ['items:read', 'items:write'],
  });
  respond = provider.callback();
}

const server = createServer((request, response) => {
  if (request.url === '/rotate' || request.url === '/withdraw') {
    keys = request.url === '/rotate' ? [...generated(), ...keys] : keys.slice(0, Object.keys(KINDS).length);
    build();
    response.writeHead(204).end();
  } else {
    respond(request, response);
  }
});
server.listen(0, '127.0.0.1', () => {
  issuer = `http://127.0.0.1:${server.address().port}`;
  build();
  console.log(issuer);
});
