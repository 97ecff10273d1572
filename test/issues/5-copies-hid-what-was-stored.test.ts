import { expect, test } from 'vitest';
import type { MessageGetResponse } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';
import { DerivedStores } from '../../src/server/derived-files.ts';
import { DAY, FilledLog, idOf } from '../broker/filled-log.ts';
import { makeBatch } from '../support/fake-broker.ts';
import { tempDisk } from '../support/temp-disk.ts';

/**
 * Simulation seed 2558: a topic that is kept for longer than the log had been copied, 64 messages of one producer, each a batch of its
 * own, and the cut had not come yet. A search by id looked at the newest 64 places of that block of ids, which were all copies that
 * nobody is shown before the cut, and said that the message is not there.
 */
test('F30 F34 every place of an id is found, however often its neighbours were copied', async () => {
  const { disk, directory } = tempDisk();
  const stores = await DerivedStores.open(disk, directory, () => undefined);
  const idHigh = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
  const COPIES = 4;
  for (let copy = 0; copy < COPIES; copy++)
    for (let low = 0; low < 64; low++) stores.putIds(idHigh, low, 1, 1_000 * (64 * copy + low), 1_000);
  const found = await stores.findId(idHigh, 7);
  expect(found).toHaveLength(64 * COPIES);
  for (let copy = 0; copy < COPIES; copy++) expect(found).toContain(1_000 * (64 * copy + 7));
  await stores.close();
});

test('F30 F34 what is copied and cut away while an index is read is found where the copy lies', async () => {
  const log = new FilledLog();
  log.command({ type: 'retentionSet', name: 'T', retentionMs: 20 * DAY, maxBytes: 1_000_000 });
  log.broker.sent(log.session, 'T', 0, makeBatch({ idLow: 5, count: 1, bodyBytes: 300 }));
  await log.fill(1);
  const { ids } = log.broker;
  const findId = ids.findId.bind(ids);
  const starts: number[] = [];
  const read = Promise.withResolvers<void>();
  Object.assign(ids, {
    findId: async (high: Uint8Array, low: number) => {
      starts.push(log.start);
      const found = findId(high, low);
      if (starts.length === 1) await read.promise;
      return found;
    },
  });
  const asked = log.broker.request(log.session, Op.messageGet, { id: idOf(5), topic: '', queueId: 0, offset: 0 });
  await log.fill(6);
  read.resolve();
  await log.settle();
  const answer = log.session.answers.get(asked) as MessageGetResponse;
  expect(answer).toMatchObject({ topic: 'T', queueId: 0, baseOffset: 0, messageIndex: 0 });
  expect(starts).toHaveLength(2);
  expect(starts[1]).toBeGreaterThan(starts[0] as number);
});
