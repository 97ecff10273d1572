import { readU32, writeU32 } from '../base/bytes.ts';
import { crc32 } from '../base/crc.ts';
import { pack, unpack } from '../protocol/msgpack.ts';
import { int, list, map, nullable, type Schema, textUpTo, u16 } from '../protocol/schema.ts';
import { MAX_REPLICAS } from '../raft/quorum.ts';
import type { Membership, RaftConfig, ReplicaId } from '../raft/types.ts';

const MEMBERSHIP_VERSION = 1;

/** Who a replica is and where it is found. */
export interface Member {
  readonly replicaId: ReplicaId;
  /** Of its data directory: another one under the same id is another replica (I5). */
  readonly incarnation: string;
  readonly host: string;
  /** Its client port; peers are one above. */
  readonly port: number;
}

/** A membership as its entry holds it: what Raft counts, and who that is. The same object goes through the Raft core and comes back from it. */
export interface GroupMembership extends Membership {
  /** Everybody named by voters, learners, outgoing and replacing, by id. */
  readonly members: readonly Member[];
  /** Ids whose directory was lost: they were removed for that, and are taken in again with the new one without being asked for. */
  readonly replacing: readonly ReplicaId[];
  /** Raised by `raft recover` alone: who has a lower one was left behind and may not vote any more. */
  readonly epoch: number;
}

interface Wire {
  readonly version: number;
  readonly voters: readonly number[];
  readonly learners: readonly number[];
  readonly outgoing: readonly number[] | null;
  readonly members: readonly Member[];
  readonly replacing: readonly number[];
  readonly epoch: number;
}

const replicaId = int(1, MAX_REPLICAS);
const ids: Schema<readonly number[]> = list(replicaId, MAX_REPLICAS);
const wire = map<Wire>({
  version: u16,
  voters: ids,
  learners: ids,
  outgoing: nullable(ids),
  members: list(map<Member>({ replicaId, incarnation: textUpTo(256), host: textUpTo(256), port: int(1, 0xffff) }), MAX_REPLICAS),
  replacing: ids,
  epoch: int(0, Number.MAX_SAFE_INTEGER),
});

/** Body of a membership entry: [CRC-32 u32][msgpack map]. */
export function encodeMembership(membership: GroupMembership): Uint8Array {
  const { voters, learners, outgoing, members, replacing, epoch } = membership;
  const packed = pack({ version: MEMBERSHIP_VERSION, voters, learners, outgoing, members, replacing, epoch });
  const body = new Uint8Array(4 + packed.length);
  body.set(packed, 4);
  writeU32(body, 0, crc32(body.subarray(4)));
  return body;
}

/** @throws LedgerError BAD_REQUEST for what this release cannot read: half of a membership would be another quorum */
export function decodeMembership(body: Uint8Array): GroupMembership {
  const { version, ...membership } = wire(unpack(body.subarray(4)), 'membership');
  if (version !== MEMBERSHIP_VERSION) throw new Error(`membership version ${version} is not known to this release`);
  return membership;
}

export const membershipChecksum = (body: Uint8Array): number => readU32(body, 0);

export function memberOf({ members }: GroupMembership, id: ReplicaId): Member | undefined {
  return members.find((member) => member.replicaId === id);
}

/** A replica that nobody has added yet. */
export const NOBODY: GroupMembership = { voters: [], learners: [], outgoing: null, members: [], replacing: [], epoch: 0 };

/** Only those who are named by it, by id; of those whose directory was lost the address is kept. */
function named(membership: GroupMembership, members: readonly Member[]): GroupMembership {
  const { voters, learners, outgoing, replacing } = membership;
  const all = new Set([...voters, ...learners, ...(outgoing ?? []), ...replacing]);
  return { ...membership, members: members.filter((member) => all.has(member.replicaId)).sort((a, b) => a.replicaId - b.replicaId) };
}

export function withLearner(now: GroupMembership, member: Member): GroupMembership {
  const learners = [...now.learners.filter((id) => id !== member.replicaId), member.replicaId].sort((a, b) => a - b);
  const members = [...now.members.filter((one) => one.replicaId !== member.replicaId), member];
  return named({ ...now, learners, replacing: now.replacing.filter((id) => id !== member.replicaId) }, members);
}

/** Joint: both majorities decide until leaving() follows. */
export function promoting(now: GroupMembership, id: ReplicaId): GroupMembership {
  const voters = [...now.voters, id].sort((a, b) => a - b);
  return named({ ...now, voters, learners: now.learners.filter((one) => one !== id), outgoing: now.voters }, now.members);
}

/** @param replaced its directory was lost: it comes back as another replica under the same id */
export function removing(now: GroupMembership, id: ReplicaId, replaced: boolean): GroupMembership {
  const replacing = replaced ? [...new Set([...now.replacing, id])].sort((a, b) => a - b) : now.replacing.filter((one) => one !== id);
  if (!now.voters.includes(id)) return named({ ...now, learners: now.learners.filter((one) => one !== id), replacing }, now.members);
  return named({ ...now, voters: now.voters.filter((one) => one !== id), outgoing: now.voters, replacing }, now.members);
}

/** Ends a joint membership. */
export function leaving(now: GroupMembership): GroupMembership {
  return named({ ...now, outgoing: null }, now.members);
}

/**
 * The membership before any entry of one: all that formed the group. For a replica that took no part in it, nobody: it does not
 * vote before the log says so.
 */
export function formedMembership(
  own: { readonly replicaId: ReplicaId; readonly replicas: readonly Omit<Member, 'incarnation'>[] },
  incarnation: string,
  formedWith: Readonly<Record<string, string>>,
): GroupMembership {
  if (formedWith[own.replicaId] !== incarnation) return NOBODY;
  const voters = Object.keys(formedWith)
    .map(Number)
    .sort((a, b) => a - b);
  const members = own.replicas.flatMap(({ replicaId, host, port }) => {
    const known = formedWith[replicaId];
    return known === undefined ? [] : [{ replicaId, incarnation: known, host, port }];
  });
  return { ...NOBODY, voters, members };
}

/** What the Raft core starts with. @param formed without any membership entry */
export function membershipsOf(
  recovered: {
    readonly applied: { readonly index: number };
    readonly memberships: readonly { readonly index: number; readonly membership: GroupMembership }[];
  },
  formed: GroupMembership,
): Pick<RaftConfig, 'membership' | 'membershipIndex' | 'laterMemberships'> {
  const base = recovered.memberships.filter(({ index }) => index <= recovered.applied.index).at(-1) ?? { index: 0, membership: formed };
  const later = recovered.memberships.filter(({ index }) => index > base.index);
  return { membership: base.membership, membershipIndex: base.index, laterMemberships: later };
}
