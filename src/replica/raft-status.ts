import type { Log } from '../log/types.ts';
import type { RaftStatus } from '../protocol/raft-requests.ts';
import type { RaftCore } from '../raft/types.ts';

/** What a replica says of its log and its peers; the caller adds who it is and what it has applied. */
export function raftStatusOf(
  raft: RaftCore,
  log: Log,
  nowMs: number,
  voteFloor: number,
): Omit<RaftStatus, 'brokerName' | 'replicaId' | 'appliedIndex' | 'stateDigest'> {
  return {
    role: raft.role,
    term: raft.term,
    leader: raft.leader,
    firstIndex: log.firstIndex,
    lastIndex: log.lastIndex,
    durableIndex: log.durableIndex,
    commitIndex: raft.commitIndex,
    startPosition: log.start.position,
    endPosition: log.endPosition,
    peers: raft.progress().map((peer) => ({
      replicaId: peer.id,
      matchIndex: peer.matchIndex,
      silentMs: Math.max(0, Math.round(nowMs - peer.lastContactMs)),
    })),
    voters: raft.membership.voters,
    learners: raft.membership.learners,
    outgoing: raft.membership.outgoing ?? [],
    ...(voteFloor === 0 ? {} : { voteFloor }),
  };
}
