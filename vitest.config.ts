import { defineConfig } from 'vitest/config';

// The suites rely on the pinned runtime (fs, net and stream behaviour differ between majors).
if (!process.versions.node.startsWith('24.')) {
  throw new Error(`tests run on the pinned Node 24, not ${process.versions.node}: use npm test`);
}

// Packing and installing asks the registry: not for every run of the tests.
const withPackage = process.env['LEDGERMQ_CI'] === '1';
if (!withPackage)
  process.stdout.write('test/package is left out: it installs from the registry. LEDGERMQ_CI=1 npm test, and .ci/run, run it.\n');

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: withPackage ? [] : ['test/package/**'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: process.env['VITEST_JSON'] ? ['default', 'json'] : ['default'],
    ...(process.env['VITEST_JSON'] ? { outputFile: { json: process.env['VITEST_JSON'] } } : {}),
  },
});
