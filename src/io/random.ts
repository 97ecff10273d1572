/** Randomness (invariant I9): seeded in the simulator, the operating system's in a process. */
export interface Random {
  /** Uniform in [0, 2^32). */
  u32(): number;
  /** Uniform in [0, 1). */
  unit(): number;
  /** Fills with random bytes: ids, nonces. */
  fill(bytes: Uint8Array): void;
}
