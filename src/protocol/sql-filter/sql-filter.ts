import { readU32 } from '../../base/bytes.ts';
import { batchCount, batchPropertiesBytes, INDEX_UNIT_BYTES, Unit, unitAt } from '../record-batch.ts';
import { compile, type Program } from './compile.ts';
import { parseExpression } from './parser.ts';

/** What a test of a message costs beside a byte of its properties: how the work of one pull is bounded (filterWork). */
const BYTES_PER_TEST = 4;

/**
 * A filter expression over properties (F24), compiled once. The broker and the client test messages with this one class, so
 * that both see the same ones. Bodies are not touched; of a batch only the index units and the properties are read.
 */
export class SqlFilter {
  readonly text: string;
  readonly #program: Program;

  /** @throws LedgerError BAD_FILTER, with the position */
  constructor(text: string) {
    this.text = text;
    this.#program = compile(parseExpression(text));
  }

  /**
   * Messages from…to−1 of the batch at `at`, tested one after the other.
   * @param bytes of a checked batch
   * @param wanted is asked first, for each message's index unit; none: all are tested
   * @returns whether there is one that the expression is true of, and that was wanted
   */
  matchesSome(bytes: Uint8Array, at: number, from: number, to: number, wanted: ((unit: number) => boolean) | null = null): boolean {
    const { slots } = this.#program;
    const propertiesAt = unitAt(at, batchCount(bytes, at));
    const end = unitAt(at, to);
    slots.bind(bytes);
    let found = false;
    for (let unit = unitAt(at, from); unit < end && !found; unit += INDEX_UNIT_BYTES) {
      found = (wanted === null || wanted(unit)) && this.#matches(bytes, propertiesAt, unit);
    }
    slots.release();
    return found;
  }

  /** Message `index` of the batch that `bytes` is. */
  matches(bytes: Uint8Array, index: number): boolean {
    const { slots } = this.#program;
    slots.bind(bytes);
    const found = this.#matches(bytes, unitAt(0, batchCount(bytes, 0)), unitAt(0, index));
    slots.release();
    return found;
  }

  #matches(bytes: Uint8Array, propertiesAt: number, unit: number): boolean {
    const from = propertiesAt + readU32(bytes, unit + Unit.propertiesAt);
    this.#program.slots.load(from, from + readU32(bytes, unit + Unit.propertiesBytes));
    return this.#program.evaluate() === 1;
  }

  /** What matchesSome() costs at most, in bytes that are looked at or their worth. */
  work(bytes: Uint8Array, at: number): number {
    const count = batchCount(bytes, at);
    return batchPropertiesBytes(bytes, at) + count * (INDEX_UNIT_BYTES + BYTES_PER_TEST * this.#program.tests);
  }
}
