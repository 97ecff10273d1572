import type { StartBroker } from '../broker-hook.ts';
import type { FaultKind } from '../fault-plan.ts';
import type { WorkloadName } from '../workloads.ts';

/** A bug put in on purpose, at a seam, and who must find it. */
export interface Canary {
  readonly name: string;
  /** The promise that it breaks. */
  readonly breaks: string;
  /** Checkers (or errors) any of which counts as found. */
  readonly caughtBy: readonly string[];
  readonly firstSeed: number;
  readonly seeds: number;
  /** Puts it in and tells how to take it out again. */
  plant(): () => void;
  /** Instead of the real one. */
  readonly startBroker?: StartBroker;
  /** Faults without which it hardly shows: on in each of its seeds. */
  readonly faults?: readonly FaultKind[];
  /** Features without which it does not show: attacked in each of its seeds. */
  readonly workloads?: readonly WorkloadName[];
}

// biome-ignore lint/suspicious/noExplicitAny: a patched method has whatever parameters the original has
export type AnyMethod = (...args: any[]) => any;

/** Replaces a method; `make` gets the original and returns the replacement. */
export function patch<T extends object, K extends keyof T & string>(
  target: T,
  name: K,
  make: (original: AnyMethod) => (this: T, ...args: never[]) => unknown,
): () => void {
  const original = target[name] as AnyMethod;
  Object.defineProperty(target, name, { value: make(original), configurable: true, writable: true });
  return () => Object.defineProperty(target, name, { value: original, configurable: true, writable: true });
}

export const nothing = (): (() => void) => () => {};
