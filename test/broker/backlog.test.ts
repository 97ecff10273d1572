import { describe, expect, test } from 'vitest';
import type { GroupLagResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { consumerLags } from '../../src/server/consumer-lag.ts';
import { BrokerHarness, makeBatch } from '../support/fake-broker.ts';

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

describe('F27 backlog', () => {
  test('F27 lag of each queue in messages, and by the log time of its oldest message that is not committed', async () => {
    const broker = BrokerHarness.ready({ T: 2, U: 1 });
    const session = broker.session();
    const times: number[] = [];
    for (let i = 0; i < 4; i++) {
      broker.replica.passTime(1_000);
      broker.sent(session, 'T', 0, makeBatch({ count: 5, idLow: 10 * i }));
      times.push(broker.machine.logTimeMs);
    }
    broker.sent(session, 'U', 0, makeBatch());
    const member = broker.join(session, 'g', 'm', ['T', 'U']);
    const epoch = member.queues[0]?.epoch as number;
    broker.request(session, Op.offsetCommit, { group: 'g', member: 'm', epoch, offsets: [{ topic: 'T', queueId: 0, offset: 12 }] });
    broker.clock.advance(100);
    broker.replica.settle();
    broker.replica.passTime(500);
    const ask = async (topic: string): Promise<GroupLagResponse> => {
      const id = broker.request(session, Op.groupLag, { group: 'g', topic });
      for (let i = 0; i < 5; i++) await tick();
      return session.answers.get(id) as GroupLagResponse;
    };
    const { logTimeMs, queues } = await ask('T');
    expect(logTimeMs).toBe((times[3] as number) + 500);
    expect(
      queues.map(({ queueId, committedOffset, maxOffset, lag, oldestTimeMs }) => [queueId, committedOffset, maxOffset, lag, oldestTimeMs]),
    ).toEqual([
      // Offset 12 lies in the third batch.
      [0, 12, 20, 8, times[2]],
      [1, -1, 0, 0, -1],
    ]);
    expect((await ask('')).queues.map(({ topic }) => topic)).toEqual(['T', 'T', 'U']);
    const id = broker.request(session, Op.groupLag, { group: 'nobody', topic: '' });
    expect(session.answers.get(id)).toBe('GROUP_NOT_FOUND');
    // What is scraped says the same.
    expect(await consumerLags(broker.machine)).toEqual([
      { group: 'g', topic: 'T', messages: 8, oldestTimeMs: times[2] },
      { group: 'g', topic: 'U', messages: 1, oldestTimeMs: times[3] },
    ]);
  });
});
