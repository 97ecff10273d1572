import { spawn } from 'node:child_process';
import { constants } from 'node:os';

/**
 * What V8 is told of a client under heavy load (docs/guide/producing.md). Each read of a socket is memory outside of the heap, and a
 * small heap answers its growth with collections of the whole, ten a second. With these there are none: end to end at half of the
 * peak p99 is 8 ms where it was 18, batches are 8 % more (docs/benchmarks.md).
 */
const HEAVY_CLIENT_FLAGS = ['--initial-old-space-size=256', '--max-semi-space-size=32'];
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;

/** Whether this process was started with memory settings of somebody's own, or by runAsHeavyClient(). */
export function hasMemorySettings(): boolean {
  return process.execArgv.some((flag) => /^--(initial-old-space|max-semi-space|min-semi-space)-size/.test(flag));
}

/** Runs this same command in a process with the settings: V8 takes them at its start only. @returns its exit code */
export function runAsHeavyClient(): Promise<number> {
  const child = spawn(process.execPath, [...process.execArgv, ...HEAVY_CLIENT_FLAGS, ...process.argv.slice(1)], { stdio: 'inherit' });
  for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']));
  });
}
