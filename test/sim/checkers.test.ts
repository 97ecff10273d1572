import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { Request } from '../../src/protocol/frame.ts';
import { Op, type TopicPutRequest } from '../../src/protocol/requests.ts';
import { NOBODY } from '../../src/replica/membership.ts';
import { CommittedChecker } from './checkers/committed.ts';
import { checkDuplicated } from './checkers/duplicated.ts';
import { FabricatedChecker } from './checkers/fabricated.ts';
import { checkIdentical } from './checkers/identical.ts';
import { LeadersChecker } from './checkers/leaders.ts';
import { type Acked, checkLost } from './checkers/lost.ts';
import { MembershipsChecker } from './checkers/memberships.ts';
import { OffsetBackChecker } from './checkers/offset-back.ts';
import { checkOffsetGap } from './checkers/offset-gap.ts';
import { OwnersChecker } from './checkers/owners.ts';
import { ProgressChecker } from './checkers/progress.ts';
import { ReadersChecker } from './checkers/readers.ts';
import { checkReordered } from './checkers/reordered.ts';
import { SyncedChecker } from './checkers/synced.ts';
import { TopicsChecker } from './checkers/topics.ts';
import { type FinalLog, type Seen, Violation } from './checkers/violation.ts';

/** A right history: producers with keys, each key in the queue it hashes to, everything acknowledged. */
interface History {
  readonly queues: Map<string, { minOffset: number; messages: Seen[] }>;
  readonly acked: Acked[];
}

const rightHistory = fc
  .array(fc.record({ producer: fc.integer({ min: 1, max: 3 }), key: fc.integer({ min: 1, max: 4 }) }), { minLength: 4, maxLength: 60 })
  .map((sends): History => {
    const queues: History['queues'] = new Map();
    const acked: Acked[] = [];
    sends.forEach(({ producer, key }, n) => {
      const name = `t/${key % 2}`;
      const queue = queues.get(name) ?? { minOffset: 0, messages: [] };
      queues.set(name, queue);
      const offset = queue.messages.length;
      const seen = { queue: name, offset, identity: `id-${n}`, fingerprint: n * 7919, body: { producer, key, n, whole: true } };
      queue.messages.push(seen);
      acked.push({ queue: name, offset, identity: seen.identity });
    });
    return { queues, acked };
  });

/** A right history and a place in it. */
const historyAndPlace = fc.tuple(rightHistory, fc.nat()).map(([history, at]) => {
  const all = [...history.queues.values()].flatMap((queue) => queue.messages);
  return { history, victim: all[at % all.length] as Seen };
});

function checkAll(history: History): void {
  const log: FinalLog = { queues: history.queues };
  checkLost(history.acked, log);
  checkDuplicated(log);
  checkReordered(log);
  checkOffsetGap(log);
}

function caught(checker: string, act: () => void): void {
  let violation: unknown = null;
  try {
    act();
  } catch (error) {
    violation = error;
  }
  expect(violation).toBeInstanceOf(Violation);
  expect((violation as Violation).checker).toBe(checker);
}

const messagesOf = (history: History, seen: Seen): Seen[] => history.queues.get(seen.queue)?.messages as Seen[];

describe('checkers of the final log', () => {
  test('a right history passes them all', () => {
    fc.assert(fc.property(rightHistory, (history) => checkAll(history)));
  });

  test('lost: an acknowledged message that is missing or replaced', () => {
    fc.assert(
      fc.property(historyAndPlace, fc.boolean(), ({ history, victim }, replaced) => {
        const messages = messagesOf(history, victim);
        if (replaced) messages[victim.offset] = { ...victim, identity: 'another' };
        else messages.length = victim.offset;
        caught('lost', () => checkLost(history.acked, { queues: history.queues }));
      }),
    );
  });

  test('lost: what retention took is not lost, a leader-only acknowledgement promises less', () => {
    const queues = new Map([['t/0', { minOffset: 5, messages: [] }]]);
    checkLost(
      [
        { queue: 't/0', offset: 4, identity: 'a' },
        { queue: 't/0', offset: -1, identity: 'b' },
      ],
      { queues },
    );
    caught('lost', () => checkLost([{ queue: 't/0', offset: 5, identity: 'a' }], { queues }));
  });

  test('duplicated: a message stored again, under its id or under another', () => {
    fc.assert(
      fc.property(historyAndPlace, fc.boolean(), ({ history, victim }, sameId) => {
        const messages = messagesOf(history, victim);
        messages.push({ ...victim, offset: messages.length, identity: sameId ? victim.identity : 'new id' });
        caught('duplicated', () => checkDuplicated({ queues: history.queues }));
      }),
    );
  });

  test('reordered: two messages of one key change places, or a key moves to another queue', () => {
    fc.assert(
      fc.property(rightHistory, (history) => {
        for (const queue of history.queues.values()) {
          const [first] = queue.messages;
          const next = queue.messages.find(
            (seen) => seen !== first && seen.body.key === first?.body.key && seen.body.producer === first.body.producer,
          );
          if (first === undefined || next === undefined) continue;
          queue.messages[first.offset] = { ...next, offset: first.offset };
          queue.messages[next.offset] = { ...first, offset: next.offset };
          caught('reordered', () => checkReordered({ queues: history.queues }));
          return;
        }
      }),
    );
    const seen = (queue: string, n: number): Seen => ({
      queue,
      offset: 0,
      identity: `id-${n}`,
      fingerprint: n,
      body: { producer: 1, key: 1, n, whole: true },
    });
    const queues = new Map([
      ['t/0', { minOffset: 0, messages: [seen('t/0', 1)] }],
      ['t/1', { minOffset: 0, messages: [seen('t/1', 2)] }],
    ]);
    caught('reordered', () => checkReordered({ queues }));
  });

  test('offset gap: an offset is left out or given twice', () => {
    fc.assert(
      fc.property(historyAndPlace, fc.constantFrom(-1, 1), ({ history, victim }, by) => {
        messagesOf(history, victim)[victim.offset] = { ...victim, offset: victim.offset + by };
        caught('offset gap', () => checkOffsetGap({ queues: history.queues }));
      }),
    );
  });

  test('not identical: one byte differs where two logs overlap', () => {
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 2, maxLength: 200 }), fc.nat(), fc.nat(), (bytes, at, skip) => {
        const start = skip % bytes.length;
        const part = { replicaId: 2, startPosition: 100 + start, bytes: bytes.slice(start) };
        const logs = [{ replicaId: 1, startPosition: 100, bytes }, part];
        checkIdentical(logs);
        const victim = at % part.bytes.length;
        part.bytes[victim] = (part.bytes[victim] as number) ^ 1;
        caught('not identical', () => checkIdentical(logs));
      }),
    );
  });
});

describe('checkers that watch a run', () => {
  test('fabricated: never sent, or damaged', () => {
    fc.assert(
      fc.property(historyAndPlace, ({ history, victim }) => {
        const checker = new FabricatedChecker();
        const all = [...history.queues.values()].flatMap((queue) => queue.messages);
        for (const { body } of all) if (body.n !== victim.body.n) checker.sent(body.producer, body.n);
        for (const seen of all) if (seen !== victim) checker.seen(seen);
        caught('fabricated', () => checker.seen(victim));
        checker.sent(victim.body.producer, victim.body.n);
        checker.seen(victim);
        caught('fabricated', () => checker.seen({ ...victim, body: { ...victim.body, whole: false } }));
      }),
    );
  });

  test('readers disagree; uncommitted shown', () => {
    fc.assert(
      fc.property(historyAndPlace, ({ history, victim }) => {
        const checker = new ReadersChecker();
        for (const queue of history.queues.values()) for (const seen of [...queue.messages, ...queue.messages]) checker.seen(seen);
        checker.checkShown({ queues: history.queues });
        caught('readers disagree', () => checker.seen({ ...victim, fingerprint: victim.fingerprint + 1 }));
        messagesOf(history, victim).splice(victim.offset, 1);
        caught('uncommitted shown', () => checker.checkShown({ queues: history.queues }));
      }),
    );
  });

  test('offset gone back: a fetch shows less than what was acknowledged before it began', () => {
    fc.assert(
      fc.property(fc.array(fc.nat({ max: 1000 }), { minLength: 1 }), fc.integer({ min: 1, max: 5 }), (steps, by) => {
        const checker = new OffsetBackChecker();
        let offset = 0;
        for (const step of steps) {
          const overlapping = checker.floor('g', 't/0');
          offset += step;
          checker.committed('g', 't/0', offset);
          // It began before the commit was acknowledged, so it may miss it.
          checker.fetched('g', 't/0', overlapping, Math.max(overlapping, 0));
          checker.fetched('g', 't/0', checker.floor('g', 't/0'), offset);
        }
        caught('offset gone back', () => checker.fetched('g', 't/0', checker.floor('g', 't/0'), offset - by));
      }),
    );
  });

  test('two leaders of one term', () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: 50 }), { minLength: 1 }), (terms) => {
        const checker = new LeadersChecker();
        for (const term of terms) checker.leads(term % 3, term);
        for (const term of terms) checker.leads(term % 3, term);
        caught('two leaders', () => checker.leads(((terms[0] as number) % 3) + 1, terms[0] as number));
      }),
    );
  });

  test('went back: term, commit or applied index; a restart forgives all but the term', () => {
    for (const what of ['term', 'commitIndex', 'appliedIndex'] as const) {
      const checker = new ProgressChecker();
      const view = { term: 3, commitIndex: 10, appliedIndex: 8 };
      checker.saw(1, view);
      checker.saw(2, { term: 1, commitIndex: 1, appliedIndex: 1 });
      caught('went back', () => checker.saw(1, { ...view, [what]: view[what] - 1 }));
      checker.restarted(1, 3);
      if (what === 'term') caught('went back', () => checker.saw(1, { ...view, term: 2 }));
      else checker.saw(1, { ...view, appliedIndex: 0, [what]: view[what] - 1 });
    }
    caught('went back', () => new ProgressChecker().saw(1, { term: 1, commitIndex: 3, appliedIndex: 4 }));
  });

  test('committed differs, state differs: two replicas at one index', () => {
    const checker = new CommittedChecker();
    for (const replica of [1, 2, 3]) checker.digest(replica, 4, 77);
    checker.digest(1, 5, 78);
    caught('state differs', () => checker.digest(2, 4, 78));
  });

  test('two owners: an epoch shared, or an old epoch served after a newer one', () => {
    const checker = new OwnersChecker();
    checker.accepted('g', 't/0', 'a', 1, checker.newest('g', 't/0'));
    const early = checker.newest('g', 't/0');
    checker.accepted('g', 't/0', 'b', 2, checker.newest('g', 't/0'));
    checker.accepted('g', 't/0', 'a', 1, early);
    checker.accepted('other', 't/0', 'c', 1, checker.newest('other', 't/0'));
    caught('two owners', () => checker.accepted('g', 't/0', 'a', 1, checker.newest('g', 't/0')));
    caught('two owners', () => checker.accepted('g', 't/0', 'a', 2, checker.newest('g', 't/0')));
  });

  test('not synced: an append reply, a vote, a client acknowledgement ahead of the disks', () => {
    const durable = new Map([
      [1, 10],
      [2, 5],
      [3, 0],
    ]);
    const checker = new SyncedChecker({
      deciders: () => [[[1, 2, 3]]],
      durableIndex: (id) => durable.get(id) as number,
      durableTerm: () => ({ term: 4, votedFor: 2 }),
      holdsBatch: (id, checksum) => (durable.get(id) as number) >= checksum,
    });
    checker.appendResponse(2, 4, 5);
    checker.vote(1, 4, 2);
    checker.vote(1, 3, 1);
    checker.clientAck(1, 5);
    caught('not synced', () => checker.appendResponse(2, 4, 6));
    caught('not synced', () => checker.appendResponse(2, 5, 5));
    caught('not synced', () => checker.vote(1, 4, 3));
    caught('not synced', () => checker.vote(1, 5, 2));
    caught('not synced', () => checker.clientAck(1, 6));
  });

  test('memberships: the end of a joint one decides though a later one was overwritten that only the minority had (seed 526)', () => {
    const member = (replicaId: number) => ({ replicaId, incarnation: `i${replicaId}`, host: '', port: 0 });
    const of = (voters: readonly number[], outgoing: readonly number[] | null) => ({
      ...NOBODY,
      voters,
      outgoing,
      members: [...new Set([...voters, ...(outgoing ?? [])])].map(member),
    });
    const holders = new Map([
      [7, [1, 2, 3]],
      [8, [1, 3]],
      [9, [2]],
    ]);
    const checker = new MembershipsChecker({ holdsMembership: (id, _index, checksum) => holders.get(checksum)?.includes(id) === true });
    checker.formed(of([1, 2, 3], null));
    checker.durable(10, 7, of([1, 3], null), null);
    // What the leader of before, which was cut off, had laid behind it.
    checker.durable(14, 9, of([1, 3], [1, 2, 3]), null);
    checker.durable(12, 8, of([1], [1, 3]), null);
    expect(checker.deciders(20)).toContainEqual([[1]]);
    holders.set(8, [1]);
    expect(checker.deciders(20)).not.toContainEqual([[1]]);
  });

  describe('topics', () => {
    const record = (version: number, more: Partial<TopicPutRequest> = {}): TopicPutRequest => {
      const placement = [{ brokerName: 'a', queues: 2 }];
      const put = { topic: 't', topicId: 7, version, perm: 6, messageType: 'normal', placement, replication: 2, deleted: false } as const;
      return { ...put, known: true, ...more };
    };
    const put = (body: TopicPutRequest): Request => ({ op: Op.topicPut, requestId: 1, deadlineMs: 0, body, raw: new Uint8Array() });
    const list: Request = { op: Op.topicList, requestId: 1, deadlineMs: 0, body: { topics: ['t'] }, raw: new Uint8Array() };
    const done = (checker: TopicsChecker, request: Request): void => checker.answered('a', request, checker.begun('a', request), {});
    const described = ({ deleted: _, known: __, ...topic }: TopicPutRequest, queues = 2) => {
      const places = Array.from({ length: queues }, (_, queueId) => ({ queueId, minOffset: 0, maxOffset: 0 }));
      return { topics: [{ ...topic, queues: places }] };
    };
    const listed = (checker: TopicsChecker, body: object, begun = checker.begun('a', list)): void =>
      checker.answered('a', list, begun, body);
    const made = (): TopicsChecker => {
      const checker = new TopicsChecker();
      done(checker, put(record(1, { known: false })));
      done(checker, put(record(2)));
      return checker;
    };

    test('went back: an older version, fewer queues, another body of the same version', () => {
      listed(made(), described(record(2)));
      listed(made(), described(record(3)));
      caught('topic went back', () => listed(made(), described(record(1))));
      caught('topic went back', () => listed(made(), described(record(2), 1)));
      const checker = made();
      listed(checker, described(record(2)));
      caught('topic went back', () => listed(checker, described(record(2, { perm: 4 }))));
    });

    test('lost: not listed, though nobody asked for its end', () => {
      caught('topic lost', () => listed(made(), { topics: [] }));
      const checker = made();
      checker.begun('a', put(record(3, { deleted: true })));
      listed(checker, { topics: [] });
    });

    test('came back: listed by an answer to a question of after the deletion, unless a creation was on its way', () => {
      const checker = made();
      const early = checker.begun('a', list);
      done(checker, put(record(3, { deleted: true })));
      listed(checker, described(record(2)), early);
      listed(checker, { topics: [] });
      caught('topic came back', () => listed(checker, described(record(2))));
      const late = made();
      late.begun('a', put(record(1, { known: false })));
      done(late, put(record(3, { deleted: true })));
      listed(late, described(record(1)));
    });

    test('certain is what is there and nobody wants away', () => {
      const checker = made();
      expect(checker.certain('a', 't')).toBe(7);
      expect(checker.certain('b', 't')).toBeNull();
      checker.begun('b', put(record(3, { deleted: true })));
      expect(checker.certain('a', 't')).toBeNull();
    });
  });
});
