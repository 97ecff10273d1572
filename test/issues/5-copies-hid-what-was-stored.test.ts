import { expect, test } from 'vitest';
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

/** Its first look into an index comes back when `days` more have passed. */
function slowIndex(
  log: FilledLog,
  name: 'findId' | 'findKey',
): {
  passed: (days: number) => Promise<void>;
  comeBack: () => void;
  looks: () => number;
} {
  const { ids } = log.broker;
  const find = ids[name].bind(ids) as (...parameters: unknown[]) => unknown;
  const read = Promise.withResolvers<void>();
  let looks = 0;
  Object.assign(ids, {
    [name]: async (...parameters: unknown[]) => {
      const found = find(...parameters);
      if (looks++ === 0) await read.promise;
      return found;
    },
  });
  const passed = async (days: number): Promise<void> => {
    await log.fill(days);
    read.resolve();
    await log.settle();
  };
  return { passed, comeBack: () => read.resolve(), looks: () => looks };
}

function shelf(): FilledLog {
  const log = new FilledLog();
  log.command({ type: 'retentionSet', name: 'T', retentionMs: 20 * DAY, maxBytes: 1_000_000 });
  return log;
}

test('F30 F34 what is copied and cut away while an index is read is found where the copy lies', async () => {
  const log = shelf();
  log.broker.sent(log.session, 'T', 0, makeBatch({ idLow: 5, count: 1, bodyBytes: 300 }));
  await log.fill(1);
  const { passed, looks } = slowIndex(log, 'findId');
  const start = log.start;
  const asked = log.broker.request(log.session, Op.messageGet, { id: idOf(5), topic: '', queueId: 0, offset: 0 });
  await passed(6);
  expect(log.session.answers.get(asked)).toMatchObject({ topic: 'T', queueId: 0, baseOffset: 0, messageIndex: 0 });
  expect(looks()).toBe(2);
  expect(log.start).toBeGreaterThan(start);
});

test('F30 F34 so it is for a search by key', async () => {
  const log = shelf();
  log.broker.sent(log.session, 'T', 0, makeBatch({ idLow: 5, count: 1, bodyBytes: 300, keys: [['order-7']] }));
  await log.fill(1);
  const { passed, looks } = slowIndex(log, 'findKey');
  const range = { fromTimeMs: 0, toTimeMs: Number.MAX_SAFE_INTEGER };
  const asked = log.broker.request(log.session, Op.messageQuery, { topic: 'T', key: 'order-7', ...range, max: 10 });
  await passed(6);
  expect(log.session.answers.get(asked)).toMatchObject({ found: [{ queueId: 0, baseOffset: 0, messageIndexes: [0] }], next: null });
  expect(looks()).toBe(2);
});

test('F13 F34 what waits is cancelled, though it is carried while an index is read', async () => {
  const log = new FilledLog();
  log.send({ delayMs: 20 * DAY }, { idLow: 5, bodyBytes: 300 });
  await log.fill(1);
  const { passed, looks } = slowIndex(log, 'findId');
  const asked = log.broker.request(log.session, Op.delayCancel, { topic: 'T', id: idOf(5) });
  await passed(6);
  expect(log.session.answers.get(asked)).toEqual({});
  expect(looks()).toBe(2);
  await log.fill(16);
  expect(log.delivered()).toBe(0);
});

test('F13 F34 so it is while it waits at the head and the cut has not come yet', async () => {
  const log = new FilledLog();
  log.send({ delayMs: 20 * DAY }, { idLow: 5, bodyBytes: 300 });
  await log.fill(1);
  const { comeBack, looks } = slowIndex(log, 'findId');
  const { carried } = log.broker.machine;
  const moved = carried.moved.bind(carried);
  let startThen = -1;
  carried.moved = (position) => {
    moved(position);
    if (startThen < 0) startThen = log.start;
    comeBack();
  };
  const start = log.start;
  const asked = log.broker.request(log.session, Op.delayCancel, { topic: 'T', id: idOf(5) });
  await log.fill(6);
  expect(startThen).toBe(start);
  expect(log.session.answers.get(asked)).toEqual({});
  expect(looks()).toBe(2);
});
