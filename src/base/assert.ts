/** Thrown when an invariant of the program itself is broken. Never caused by input; the process must end. */
export class AssertionError extends Error {
  override name = 'AssertionError';
}

/** Assertions stay on in production: a broker that is wrong must stop before it acknowledges. */
export function assert(condition: unknown, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** Asserts a non-negative integer below 2^53: an index, term, position, offset or size. */
export function assertU53(value: number, name: string): void {
  if (!(Number.isSafeInteger(value) && value >= 0)) throw new AssertionError(`${name} is not an integer in [0, 2^53): ${value}`);
}

/** For the default branch of a switch over a closed union: the compiler proves that it is never reached. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${JSON.stringify(value)}`);
}
