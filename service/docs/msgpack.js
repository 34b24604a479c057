// MessagePack as the service speaks it (https://msgpack.org), and JSON without rounding: integers are BigInts in both.

const TIMESTAMP = -1; // the extension type
const text = { encode: new TextEncoder(), decode: new TextDecoder("utf-8", { fatal: true }) };

// Return the value of a JSON text; a number that is written in digits alone is an integer.
export function parse(json) {
  return JSON.parse(json, (_, value, { source }) =>
    typeof value === "number" && /^-?\d+$/.test(source) ? BigInt(source) : value,
  );
}

// Return a JSON text of a value, indented.
export function stringify(value) {
  return JSON.stringify(value, (_, each) => (typeof each === "bigint" ? JSON.rawJSON(each.toString()) : number(each)), 2);
}

// A double without a fraction is no integer, and is to look different.
function number(value) {
  return typeof value === "number" && Number.isInteger(value) && Math.abs(value) < 1e21
    ? JSON.rawJSON(`${value}.0`)
    : value;
}

// Return the bytes of a value.
export function encode(value) {
  return Uint8Array.from(encoded(value));
}

function* encoded(value) {
  if (value === null) yield 0xc0;
  else if (typeof value === "boolean") yield value ? 0xc3 : 0xc2;
  else if (typeof value === "bigint") yield* integer(value);
  else if (typeof value === "number") yield* [0xcb, ...big(8, (view) => view.setFloat64(0, value))];
  else if (typeof value === "string") {
    const bytes = text.encode.encode(value);
    yield* [...length(bytes.length, 0xa0, 31, 0xd9, 0xda, 0xdb), ...bytes];
  } else if (Array.isArray(value)) {
    yield* length(value.length, 0x90, 15, null, 0xdc, 0xdd);
    for (const each of value) yield* encoded(each);
  } else {
    const entries = Object.entries(value);
    yield* length(entries.length, 0x80, 15, null, 0xde, 0xdf);
    for (const [key, each] of entries) yield* [...encoded(key), ...encoded(each)];
  }
}

function integer(value) {
  if (value < -(2n ** 63n) || value >= 2n ** 64n) throw new RangeError(`${value} has more than 64 bits`);
  if (value >= 0n && value < 128n) return [Number(value)];
  if (value >= 2n ** 63n) return [0xcf, ...big(8, (view) => view.setBigUint64(0, value))];
  return [0xd3, ...big(8, (view) => view.setBigInt64(0, value))];
}

// Return how long something is: in its first byte up to `most`, or behind a byte in 8, 16 or 32 bits.
function length(count, first, most, one, two, four) {
  if (count <= most) return [first + count];
  if (one !== null && count < 2 ** 8) return [one, count];
  if (count < 2 ** 16) return [two, ...big(2, (view) => view.setUint16(0, count))];
  return [four, ...big(4, (view) => view.setUint32(0, count))];
}

function big(size, set) {
  const view = new DataView(new ArrayBuffer(size));
  set(view);
  return new Uint8Array(view.buffer);
}

// Return the value of bytes. Throws a RangeError if they end too early.
export function decode(bytes) {
  return new Reader(bytes).value();
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  // Return where the next bytes begin, and go on behind them.
  skip(size) {
    const start = this.at;
    this.at += size;
    if (this.at > this.bytes.length) throw new RangeError("the bytes end too early");
    return start;
  }

  take(size) {
    const start = this.skip(size);
    return this.bytes.subarray(start, start + size);
  }

  unsigned(size) {
    const start = this.skip(size);
    return size === 8 ? this.view.getBigUint64(start) : BigInt(this.view[`getUint${size * 8}`](start));
  }

  signed(size) {
    return BigInt.asIntN(size * 8, this.unsigned(size));
  }

  value() {
    const type = Number(this.unsigned(1));
    if (type < 0x80) return BigInt(type);
    if (type < 0x90) return this.map(type & 0x0f);
    if (type < 0xa0) return this.array(type & 0x0f);
    if (type < 0xc0) return this.string(type & 0x1f);
    if (type >= 0xe0) return BigInt(type - 0x100);
    const read = BY_TYPE[type];
    if (read === undefined) throw new TypeError(`a value of the type 0x${type.toString(16)} is not expected`);
    return read(this);
  }

  length(size) {
    return Number(this.unsigned(size));
  }

  string(count) {
    return text.decode.decode(this.take(count));
  }

  array(count) {
    return Array.from({ length: count }, () => this.value());
  }

  map(count) {
    return Object.fromEntries(Array.from({ length: count }, () => [this.value(), this.value()]));
  }

  extension(size) {
    const type = Number(this.signed(1));
    if (type !== TIMESTAMP) throw new TypeError(`an extension of the type ${type} is not expected`);
    if (size === 4) return iso(this.unsigned(4), 0n);
    if (size === 8) {
      const both = this.unsigned(8); // 30 bits of nanoseconds, 34 of seconds
      return iso(both & (2n ** 34n - 1n), both >> 34n);
    }
    const nanoseconds = this.unsigned(4);
    return iso(this.signed(8), nanoseconds);
  }
}

const BY_TYPE = {
  0xc0: () => null,
  0xc2: () => false,
  0xc3: () => true,
  0xc7: (reader) => reader.extension(reader.length(1)),
  0xca: (reader) => reader.view.getFloat32(reader.skip(4)),
  0xcb: (reader) => reader.view.getFloat64(reader.skip(8)),
  0xcc: (reader) => reader.unsigned(1),
  0xcd: (reader) => reader.unsigned(2),
  0xce: (reader) => reader.unsigned(4),
  0xcf: (reader) => reader.unsigned(8),
  0xd0: (reader) => reader.signed(1),
  0xd1: (reader) => reader.signed(2),
  0xd2: (reader) => reader.signed(4),
  0xd3: (reader) => reader.signed(8),
  0xd6: (reader) => reader.extension(4),
  0xd7: (reader) => reader.extension(8),
  0xd9: (reader) => reader.string(reader.length(1)),
  0xda: (reader) => reader.string(reader.length(2)),
  0xdb: (reader) => reader.string(reader.length(4)),
  0xdc: (reader) => reader.array(reader.length(2)),
  0xdd: (reader) => reader.array(reader.length(4)),
  0xde: (reader) => reader.map(reader.length(2)),
  0xdf: (reader) => reader.map(reader.length(4)),
};

function iso(seconds, nanoseconds) {
  const second = new Date(Number(seconds) * 1000).toISOString().slice(0, 19);
  return `${second}.${(nanoseconds / 1000n).toString().padStart(6, "0")}Z`;
}
