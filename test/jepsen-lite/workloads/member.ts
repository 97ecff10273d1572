import { parseArgs } from 'node:util';
import { type Consumer, LedgerClient } from '../../../src/index.ts';
import { HistoryWriter } from '../history.ts';
import { Lane } from './lane.ts';
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
  await memberOf(client, new PollRecorder(lane, REBALANCE_GROUP, values.member, { eachCall: true })).start();
  process.stdin.resume().on('end', () => process.exit(0));
}

if (import.meta.main) await main();
