import { parseArgs } from 'node:util';
import { type Consumer, LedgerClient } from '../../../src/index.ts';
import { HistoryWriter } from '../history.ts';
import { codeOf, Lane } from './lane.ts';
import { PollRecorder } from './reading.ts';

export const REBALANCE_TOPIC = 'chaos-rebalance';
export const REBALANCE_GROUP = 'chaos-rebalance';
const BATCH = 32;

export function memberOf(client: LedgerClient, recorder: PollRecorder): Consumer {
  return client.consumer({
    group: REBALANCE_GROUP,
    topics: [REBALANCE_TOPIC],
    consumeFromWhere: 'first',
    ordered: true,
    consumeMessageBatchMaxSize: BATCH,
    batchHandler: recorder.take,
  });
}

async function startedOr(consumer: Consumer): Promise<boolean> {
  try {
    await consumer.start();
    return true;
  } catch (error) {
    codeOf(error);
    return false;
  }
}

/** A member of the group as a process of its own, to be killed. It ends by itself when its input does. */
async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      endpoints: { type: 'string', default: '' },
      member: { type: 'string', default: '' },
      lane: { type: 'string', default: '' },
      'origin-ns': { type: 'string', default: '0' },
      history: { type: 'string', default: '' },
    },
  });
  const history = new HistoryWriter(values.history, BigInt(values['origin-ns']), true);
  const lane = new Lane(history, { ok: 0, fail: 0, info: 0 }, Number(values.lane));
  const client = new LedgerClient({ endpoints: values.endpoints, clientId: values.member, openTelemetry: false });
  process.stdin.resume().on('end', () => process.exit(0));
  const consumer = memberOf(client, new PollRecorder(lane, REBALANCE_GROUP, values.member, { eachCall: true }));
  // While no broker answers it goes on asking, until it is killed.
  for (let started = false; !started; ) started = await startedOr(consumer);
}

if (import.meta.main) await main();
