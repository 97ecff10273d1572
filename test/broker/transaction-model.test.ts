import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Ended } from '../../src/broker/ended-transactions.ts';
import type { TransactionOutcome } from '../../src/protocol/transaction-requests.ts';
import { type Half, TransactionBroker } from '../support/transaction-broker.ts';

type Step =
  | { readonly do: 'half'; readonly queueId: number; readonly group: number; readonly immunity: number }
  | { readonly do: 'again'; readonly at: number }
  | { readonly do: 'end'; readonly at: number; readonly outcome: TransactionOutcome; readonly times: number }
  | { readonly do: 'pass'; readonly ms: number }
  | { readonly do: 'lead' }
  | { readonly do: 'lose' };

const at = fc.nat(30);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ do: fc.constant('half' as const), queueId: fc.nat(1), group: fc.nat(1), immunity: fc.nat(20) }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('again' as const), at }) },
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('end' as const),
      at,
      outcome: fc.constantFrom<TransactionOutcome>('commit', 'rollback', 'unknown'),
      times: fc.integer({ min: 1, max: 3 }),
    }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('pass' as const), ms: fc.nat(20_000) }) },
  { weight: 1, arbitrary: fc.constantFrom<Step>({ do: 'lead' }, { do: 'lose' }) },
);

const SETTINGS = { transactionTimeoutMs: 2_000, transactionCheckIntervalMs: 3_000, transactionCheckMax: 3 };

interface Told {
  readonly half: Half;
  readonly queueId: number;
  readonly body: number;
  readonly sequence: { readonly producerId: number; readonly idLow: number };
  /** The first outcome that the broker took; 'gone': rolled back after the last check. */
  first: 'commit' | 'rollback' | null;
  offset: number;
}

/** Random transactions, with what the answers said of them. */
class Model {
  readonly broker = new TransactionBroker({}, SETTINGS);
  readonly told: Told[] = [];
  readonly order: [number, number][][] = [[], []];

  run(steps: readonly Step[]): void {
    for (const each of steps) this.#step(each);
  }

  #step(next: Step): void {
    const { broker, told } = this;
    if (next.do === 'half') this.#begin(next);
    else if (next.do === 'pass') broker.pass(next.ms);
    else if (next.do === 'lead') broker.lead();
    else if (next.do === 'lose') this.#lose();
    else if (told.length > 0) {
      const one = told[next.at % told.length] as Told;
      if (next.do === 'again') expect(broker.half({ ...one.sequence, half: one.half.producerGroup }, 'T', one.queueId)).toEqual(one.half);
      else for (let i = 0; i < next.times; i++) this.#end(one, next.outcome);
    }
    this.#noteDiscarded();
  }

  #begin({ queueId, group, immunity }: Extract<Step, { do: 'half' }>): void {
    const idLow = this.told.length + 1;
    const sequence = { producerId: 100 + idLow, idLow };
    const half = this.broker.half({ ...sequence, half: `g${group}`, immunity: String(immunity) }, 'T', queueId);
    this.told.push({ half, queueId, body: idLow, sequence, first: null, offset: -1 });
  }

  /** An answer that its client never heard: the leader was lost behind it. */
  #lose(): void {
    const pending = this.told.find(({ first }) => first === null);
    if (pending === undefined) return;
    this.#end(pending, 'commit');
    this.broker.lead();
    this.#end(pending, 'commit');
  }

  #end(one: Told, outcome: TransactionOutcome): void {
    const answer = this.broker.end(one.half, outcome);
    if (outcome === 'unknown') {
      expect(answer).toBe(-1);
      return;
    }
    if (one.first === null) {
      one.first = outcome;
      if (outcome === 'commit') {
        one.offset = answer as number;
        expect(one.offset).toBe(this.order[one.queueId]?.length);
        this.order[one.queueId]?.push([one.offset, one.body]);
      }
    }
    expect(answer).toBe(one.first === outcome ? one.offset : 'TRANSACTION_CONFLICT');
  }

  /** Those whose checks are over have an outcome, too: rolled back. */
  #noteDiscarded(): void {
    const { ended } = this.broker.harness.machine.transactions;
    for (const one of this.told) {
      if (one.first !== null) continue;
      const found = ended.get(one.half.transaction);
      if (found === undefined) continue;
      expect(found.how).toBe(Ended.rolledBack);
      one.first = 'rollback';
    }
  }

  check(): void {
    const { broker, told, order } = this;
    for (const queueId of [0, 1]) expect(broker.visible('T', queueId)).toEqual(order[queueId]);
    const pending = told.filter(({ first }) => first === null).map(({ half }) => half.transaction);
    const { machine } = broker.harness;
    expect([...machine.transactions.halves.all()].map(({ transaction }) => transaction)).toEqual(pending);
    const { replayed, restored } = broker.copies();
    for (const copy of [replayed, restored]) {
      expect(copy.digest()).toBe(machine.digest());
      expect(Buffer.from(copy.snapshot()).equals(Buffer.from(machine.snapshot()))).toBe(true);
    }
  }
}

describe('transactions, any order of events', () => {
  test('F14 exactly one outcome each: committed is seen once and in order, all else never, on every replica alike', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 40 }), (steps) => {
        const model = new Model();
        model.run(steps);
        model.check();
      }),
      { numRuns: 60 },
    );
  });
});
