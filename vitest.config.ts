import { defineConfig } from 'vitest/config';

// The suites rely on the pinned runtime (fs, net and stream behaviour differ between majors).
if (!process.versions.node.startsWith('24.')) {
  throw new Error(`tests run on the pinned Node 24, not ${process.versions.node}: use npm test`);
}

// Packing and installing asks the registry, and Debian's packages and root are not everywhere: not for every run of the tests.
const NEEDS_MORE = [
  ['test/package', 'installs from the registry'],
  ['test/stores', 'needs redis-server and postgresql'],
  ['test/jepsen-lite/browser', 'needs chromium'],
  ['test/jepsen-lite/harness', 'needs root, iproute2, nftables, libfaketime and gcc'],
  ['test/prometheus', 'needs prometheus'],
  ['test/k8s/cluster', 'needs root, iproute2, nftables, Go and Python'],
] as const;
const withAll = process.env['LEDGERMQ_CI'] === '1';
if (!withAll) {
  const leftOut = NEEDS_MORE.map(([directory, why]) => `${directory} (${why})`).join(', ');
  process.stdout.write(`${leftOut} are left out: LEDGERMQ_CI=1 npm test, and .ci/run, run them.\n`);
}

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    exclude: withAll ? [] : NEEDS_MORE.map(([directory]) => `${directory}/**`),
    setupFiles: ['test/support/property-seed.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 120_000,
    hookTimeout: 60_000,
    reporters: process.env['VITEST_JSON'] ? ['default', 'json'] : ['default'],
    ...(process.env['VITEST_JSON'] ? { outputFile: { json: process.env['VITEST_JSON'] } } : {}),
  },
});
