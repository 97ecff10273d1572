import { randomBytes } from 'node:crypto';
import { constants, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

/** What zstd makes of a batch's bodies, and how long it takes: `node bench/compression.ts`. The figures of docs/decisions/0014-compression.md. */
const RUNS = 200;
const WARM_UP_RUNS = 50;
const MIB = 1024 * 1024;

const row = (i: number): string =>
  JSON.stringify({
    id: i,
    user: `u${(i * 7919) % 5000}`,
    amount: ((i * 31_337) % 10_000) / 100,
    region: ['eu', 'us', 'asia'][i % 3],
    at: 1.7e12 + i,
  });
const json = Buffer.from(Array.from({ length: 2_000 }, (_, i) => row(i)).join('\n'));
const noise = randomBytes(256 * 1024);

function meanMs(run: () => void): number {
  for (let i = 0; i < WARM_UP_RUNS; i++) run();
  const startMs = performance.now();
  for (let i = 0; i < RUNS; i++) run();
  return (performance.now() - startMs) / RUNS;
}

for (const [name, data] of [
  ['json', json],
  ['json, 8 KiB', json.subarray(0, 8_192)],
  ['random', noise],
  ['one letter', Buffer.alloc(256 * 1024, 0x61)],
] as const) {
  for (const level of [-5, 1, 3]) {
    const options = { params: { [constants.ZSTD_c_compressionLevel]: level }, pledgedSrcSize: data.length };
    const packed = zstdCompressSync(data, options);
    const packMs = meanMs(() => void zstdCompressSync(data, options));
    const openMs = meanMs(() => void zstdDecompressSync(packed, { maxOutputLength: data.length }));
    const speed = Math.round(data.length / MIB / (packMs / 1000));
    console.log(
      `${name}, level ${level}: ${data.length} → ${packed.length} bytes in ${packMs.toFixed(2)} ms (${speed} MiB/s), opened in ${openMs.toFixed(2)} ms`,
    );
  }
}
