import { defineConfig } from 'vitest/config';

// The suites rely on the pinned runtime (fs, net and stream behaviour differ between majors).
if (!process.versions.node.startsWith('24.')) {
  throw new Error(`tests run on the pinned Node 24, not ${process.versions.node}: use npm test`);
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: process.env['VITEST_JSON'] ? ['default', 'json'] : ['default'],
    ...(process.env['VITEST_JSON'] ? { outputFile: { json: process.env['VITEST_JSON'] } } : {}),
  },
});
