/** Imported before a replica's program: its wall clock runs LEDGERMQ_TEST_SHIFT_MS ahead, so that hours pass in a test. */
const now = Date.now;
const shiftMs = Number(process.env['LEDGERMQ_TEST_SHIFT_MS'] ?? 0);
Date.now = () => now() + shiftMs;
