/** CRC-32 by @node-rs/crc32 and by Node's zlib, alternating: `node bench/checksum.ts`. */
import { crc32 as nodeCrc32 } from 'node:zlib';
import { crc32 } from '../src/base/crc.ts';

const RUN_MS = 300;
const ROUNDS = 3;

function gigabytesPerSecond(checksum: (bytes: Uint8Array) => number, bytes: Uint8Array): number {
  const startMs = performance.now();
  let calls = 0;
  while (performance.now() - startMs < RUN_MS) for (let i = 0; i < 100; i++, calls++) checksum(bytes);
  return (calls * bytes.length) / ((performance.now() - startMs) * 1e6);
}

for (const sizeBytes of [64, 1024, 65_536, 1_048_576]) {
  const bytes = new Uint8Array(sizeBytes).fill(7);
  for (let round = 0; round < ROUNDS; round++) {
    const native = gigabytesPerSecond((input) => crc32(input), bytes).toFixed(2);
    const zlib = gigabytesPerSecond((input) => nodeCrc32(input), bytes).toFixed(2);
    process.stdout.write(`${JSON.stringify({ sizeBytes, round, 'node-rs GB/s': native, 'zlib GB/s': zlib })}\n`);
  }
}
