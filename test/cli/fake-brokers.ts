import type { Listener } from '../../src/io/net.ts';
import { NodeNet } from '../../src/io/node/net.ts';
import { type ErrorCode, LedgerError } from '../../src/protocol/errors.ts';
import { decodeRequest, encodeRefusal, encodeResponse, type Request } from '../../src/protocol/frame.ts';
import type { RaftStatus } from '../../src/protocol/raft-requests.ts';
import type { ClusterStatus } from '../../src/protocol/requests.ts';
import { Op } from '../../src/protocol/requests.ts';

/** What a scripted replica answers: a body, or an error's code. Operations that are not named are refused. */
export type Script = (replicaId: number, request: Request) => unknown;

export interface FakeBrokers {
  readonly endpoints: readonly string[];
  /** Requests other than hello and status, in order: [replica, op]. */
  readonly asked: [number, number][];
  leader: number;
  close(): Promise<void>;
}

export function raftStatus(replicaId: number, leader: number, changed: Partial<RaftStatus> = {}): RaftStatus {
  return {
    brokerName: 'a',
    replicaId,
    role: replicaId === leader ? 'leader' : 'follower',
    term: 4,
    leader,
    firstIndex: 1,
    lastIndex: 100,
    durableIndex: 100,
    commitIndex: 100,
    appliedIndex: 100,
    startPosition: 0,
    endPosition: 65_536,
    peers: [],
    stateDigest: 7,
    ...changed,
  };
}

/** Three replicas that speak the native protocol and answer from a script, without anything behind them. */
export async function fakeBrokers(script: Script, leader = 2): Promise<FakeBrokers> {
  const net = new NodeNet();
  const listeners: Listener[] = [];
  const endpoints: string[] = [];
  const brokers: FakeBrokers = {
    endpoints,
    asked: [],
    leader,
    close: async () => {
      await Promise.all(listeners.map((listener) => listener.close()));
    },
  };
  const answer = (replicaId: number, request: Request): unknown => {
    if (request.op === Op.hello) {
      return { version: 1, clusterId: 'fake', brokerName: 'a', replicaId, maxFrameBytes: 1e7, maxBatchBytes: 1e6, sendWindowBytes: 1e7 };
    }
    if (request.op === Op.ping) return {};
    const scripted = script(replicaId, request);
    if (scripted !== undefined) {
      if (request.op !== Op.raftStatus) brokers.asked.push([replicaId, request.op]);
      return scripted;
    }
    const self = raftStatus(replicaId, brokers.leader);
    if (request.op === Op.raftStatus) return self;
    if (request.op === Op.clusterStatus) {
      const replicas = endpoints.map((endpoint, at) => ({ replicaId: at + 1, endpoint }));
      return { clusterId: 'fake', brokers: [{ brokerName: 'a', term: 4, leader: brokers.leader, replicas }], self } satisfies ClusterStatus;
    }
    return 'UNKNOWN_OPERATION';
  };
  for (const replicaId of [1, 2, 3]) {
    const listener = await net.listenFrames('127.0.0.1', 0, 1e7, () => ({
      onFrame: (connection, frame) => {
        const request = decodeRequest(frame);
        if ('error' in request) throw request.error;
        const body = answer(replicaId, request);
        if (typeof body === 'string') connection.send(encodeRefusal(request.requestId, body as ErrorCode));
        else if (request.op === Op.send) throw new LedgerError('UNKNOWN_OPERATION');
        else connection.send(encodeResponse(request.op, request.requestId, body as never));
      },
      onClose: () => undefined,
    }));
    listeners.push(listener);
    endpoints.push(`ws://127.0.0.1:${listener.port}`);
  }
  return brokers;
}
