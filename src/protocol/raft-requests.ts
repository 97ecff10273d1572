/** Replicas of a broker group and their log, as operators see them. */

export interface RaftStatus {
  readonly brokerName: string;
  readonly replicaId: number;
  readonly role: string;
  readonly term: number;
  readonly leader: number;
  readonly firstIndex: number;
  readonly lastIndex: number;
  readonly durableIndex: number;
  readonly commitIndex: number;
  readonly appliedIndex: number;
  readonly startPosition: number;
  readonly endPosition: number;
  /** At the leader: match index and ms since the last word of each peer. */
  readonly peers: readonly { readonly replicaId: number; readonly matchIndex: number; readonly silentMs: number }[];
  readonly stateDigest: number;
  /** The membership that this replica goes by; `outgoing`: the voters before a change that is not finished, else empty. Missing: an older release. */
  readonly voters?: readonly number[];
  readonly learners?: readonly number[];
  readonly outgoing?: readonly number[];
  /** Damage in its last write keeps this replica from voting for, and leading with, a log that ends before this index. Missing: none. */
  readonly voteFloor?: number;
  /** For the balance of leaders: where it runs, whether it may lead as well as others. Missing: an older release. */
  readonly machine?: string;
  readonly priority?: number;
  readonly belowReserve?: boolean;
  /** Of the group's state, and what this replica's release knows. Missing: a release that knows level 1 only. */
  readonly featureLevel?: number;
  readonly newestFeatureLevel?: number;
}

/** Rolling hash of the log's bytes from its start (or `fromIndex`) to `toIndex`; what replicas are compared by. */
export interface VerifyChainRequest {
  readonly fromIndex: number;
  readonly toIndex: number;
}

export interface VerifyChainResponse {
  readonly fromIndex: number;
  readonly toIndex: number;
  /** CRC-32 over all bytes of the range; per slice of `sliceGroups` groups so that the first difference is found. */
  readonly slices: readonly { readonly firstIndex: number; readonly lastIndex: number; readonly position: number; readonly hash: number }[];
  readonly stateDigest: number;
  readonly digestIndex: number;
  /** Damage that this replica met while it hashed, and mended by a peer's bytes before it went on. */
  readonly damages?: readonly LogDamage[];
}

export interface LogDamage {
  /** First index and position of the damaged range. */
  readonly index: number;
  readonly position: number;
  readonly fault: string;
}

/** The replica id that is to lead; 0 = the best one. */
export interface RaftTransferRequest {
  readonly target: number;
}

export interface RaftTransferResponse {
  readonly target: number;
}

/** Answered when the replica votes, so after it has caught up: minutes, with a long log. Where it is a voter already: at once. */
export interface RaftAddRequest {
  /** 1…7 */
  readonly replicaId: number;
  /** Resolved again at each dial. */
  readonly host: string;
  /** Its client port; its peers' port is one above. */
  readonly port: number;
}

/** Answered when it is gone; at once where it was not there. */
export interface RaftRemoveRequest {
  readonly replicaId: number;
}

/** To the leader: raise the group's feature level; 0 = to what all members know. */
export interface FeatureLevelRaiseRequest {
  readonly level: number;
}

/** The group's level now; a level that was reached before is no error. */
export interface FeatureLevelRaiseResponse {
  readonly featureLevel: number;
}
