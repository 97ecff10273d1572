import { Server } from '../../src/server.ts';
import type { StartBroker } from './broker-hook.ts';

const MIB = 1024 * 1024;

/** The real broker with the memory of a simulation, without its HTTP side. */
export const startBroker: StartBroker = async (io, config, ended, event) => {
  const server = new Server(config, io, {
    onEvent: event,
    hotTail: { chunkBytes: 8 * MIB, maxChunks: 3 },
    limits: { retentionCheckMs: 1_000 },
  });
  void server.ended.then(ended);
  await server.start();
  return {
    status: () => server.replica?.status() ?? null,
    minOffset: (topic, queueId) => server.stateMachine?.topics.named(topic)?.queues[queueId]?.minOffset ?? 0,
    transfer: (target) => server.replica?.transfer(target) ?? Promise.resolve(),
  };
};
