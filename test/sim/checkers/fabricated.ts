import { type Seen, Violation } from './violation.ts';

/** Invariant: every message that anybody sees was sent by a producer, in these bytes. */
export class FabricatedChecker {
  readonly #sent = new Set<string>();

  sent(producer: number, n: number): void {
    this.#sent.add(`${producer}:${n}`);
  }

  seen(seen: Seen): void {
    const { producer, n, whole } = seen.body;
    if (!whole) throw new Violation('fabricated', `the body at ${seen.queue}@${seen.offset} does not match its own checksum`);
    if (!this.#sent.has(`${producer}:${n}`)) {
      throw new Violation('fabricated', `${seen.queue}@${seen.offset} holds message ${n} of producer ${producer}, never sent`);
    }
  }
}
