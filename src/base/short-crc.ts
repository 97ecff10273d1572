const TABLE = /* @__PURE__ */ makeTable();

function makeTable(): Int32Array {
  const table = new Int32Array(256);
  for (let i = 0; i < 256; i++) {
    let c = i;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
    table[i] = c;
  }
  return table;
}

/**
 * CRC-32 of bytes[from…to), equal to crc32() of base/crc.ts. For a few dozen bytes (a key, a ConsumeQueue unit) it beats
 * the native one, which pays for the call and for a view; for more bytes it is far slower.
 */
export function shortCrc32(bytes: Uint8Array, from: number, to: number): number {
  let c = -1;
  for (let i = from; i < to; i++) c = (c >>> 8) ^ (TABLE[(c ^ (bytes[i] as number)) & 0xff] as number);
  return ~c >>> 0;
}
