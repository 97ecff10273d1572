import { topicDescription } from '../../src/broker/describe.ts';
import { FIRST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { LARGEST_GROUP_BYTES } from '../../src/log/group-codec.ts';
import { LedgerError } from '../../src/protocol/errors.ts';
import { Server, type ServerOptions } from '../../src/server.ts';
import type { StartBroker } from './broker-hook.ts';

/** The real broker with the memory of a simulation, without its HTTP side. */
export const startBroker: StartBroker = (...given) => startWith({}, ...given);

/** @param more options of the server besides those of every simulation */
export async function startWith(
  more: ServerOptions,
  ...[io, config, ended, event]: Parameters<StartBroker>
): Promise<Awaited<ReturnType<StartBroker>>> {
  const server = new Server(config, io, {
    onEvent: event,
    hotTail: { chunkBytes: LARGEST_GROUP_BYTES, maxChunks: 6 },
    limits: { retentionCheckMs: 1_000 },
    ...more,
  });
  void server.ended.then(ended);
  await server.start();
  return {
    status: () => server.replica?.status() ?? null,
    featureLevel: () => server.stateMachine?.featureLevel ?? FIRST_FEATURE_LEVEL,
    minOffset: (topic, queueId) => server.stateMachine?.topics.named(topic)?.queues[queueId]?.minOffset ?? 0,
    topics: () => server.stateMachine?.topics.public().map(topicDescription) ?? [],
    quotas: () => server.stateMachine?.quotas.all() ?? [],
    transfer: (target) => server.replica?.transfer(target) ?? Promise.resolve(),
    membership: () => (server.replica === null ? null : { now: server.replica.membership(), index: server.replica.membershipIndex }),
    addReplica: (member) => server.replica?.addReplica(member) ?? Promise.reject(new LedgerError('NOT_LEADER')),
    removeReplica: (replicaId) => server.replica?.removeReplica(replicaId) ?? Promise.reject(new LedgerError('NOT_LEADER')),
  };
}
