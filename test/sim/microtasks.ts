import { setFlagsFromString } from 'node:v8';

/**
 * Runs all pending microtasks (promise reactions) and returns: between two simulated events everything that the first one
 * set off has happened. V8's own checkpoint does that in 0.15 µs, where a turn of Node's event loop costs 1 µs, most of an
 * event's budget. It does nothing when called from inside a microtask, so the scheduler's loop is started by setImmediate.
 */
export const drainMicrotasks: () => void = makeCheckpoint();

function makeCheckpoint(): () => void {
  setFlagsFromString('--allow-natives-syntax');
  try {
    return new Function('%PerformMicrotaskCheckpoint()') as () => void;
  } finally {
    setFlagsFromString('--no-allow-natives-syntax');
  }
}
