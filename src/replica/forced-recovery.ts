import type { Disk } from '../io/disk.ts';
import { type GroupMembership, type Member, memberOf } from './membership.ts';

const NOTE = 'raft/recover';
const MAX_NOTE_BYTES = 4096;

/** An operator's decision that a majority is lost for good and this replica goes on alone (I5). Made offline, carried out at the next start. */
export interface RecoverNote {
  /** Who decided, and why: for the log. */
  readonly reason: string;
}

/** Durable when it resolves. The replica must not run. */
export async function writeRecoverNote(disk: Disk, dataDirectory: string, note: RecoverNote): Promise<void> {
  await disk.mkdir(`${dataDirectory}/raft`);
  const path = `${dataDirectory}/${NOTE}`;
  await disk.remove(path);
  const file = await disk.open(path, { access: 'readwrite', create: true });
  try {
    await file.write(new TextEncoder().encode(JSON.stringify(note).slice(0, MAX_NOTE_BYTES)), 0);
    await file.sync();
  } finally {
    await file.close();
  }
  await disk.syncDirectory(`${dataDirectory}/raft`);
}

/** @returns null when nobody decided anything; a note that was cut short is none: whoever wrote it was not told that it is durable */
export async function readRecoverNote(disk: Disk, dataDirectory: string): Promise<RecoverNote | null> {
  const path = `${dataDirectory}/${NOTE}`;
  if (!(await disk.exists(path))) return null;
  const file = await disk.open(path, { access: 'read' });
  try {
    const bytes = new Uint8Array(Math.min(MAX_NOTE_BYTES, await file.sizeBytes()));
    await file.read(bytes, 0);
    const note: unknown = JSON.parse(new TextDecoder().decode(bytes));
    const reason = typeof note === 'object' && note !== null && 'reason' in note ? note.reason : null;
    return typeof reason === 'string' ? { reason } : null;
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  } finally {
    await file.close();
  }
}

export async function removeRecoverNote(disk: Disk, dataDirectory: string): Promise<void> {
  await disk.remove(`${dataDirectory}/${NOTE}`);
  await disk.syncDirectory(`${dataDirectory}/raft`);
}

/** By the group's setting instead of an operator (decision 0017): the same note, carried out at the next start; the process ends. */
export function majorityLossOf(
  { onMajorityLoss, majorityLossGraceMs, dataDir }: { onMajorityLoss: string; majorityLossGraceMs: number; dataDir: string },
  disk: Disk,
  failed: (error: unknown) => void,
): { readonly majorityLoss?: { readonly graceMs: number; lost(reason: string): void } } {
  if (onMajorityLoss !== 'recover') return {};
  const lost = (reason: string): void => {
    writeRecoverNote(disk, dataDir, { reason }).then(() => failed(new Error(`${reason}: goes on alone at the next start`)), failed);
  };
  return { majorityLoss: { graceMs: majorityLossGraceMs, lost } };
}

/**
 * The membership that the decision makes: this replica alone, in a new epoch, by which the others are known to be left behind when
 * they come back. Those who come back with empty directories are taken in again.
 */
export function recoveredMembership(before: GroupMembership, own: Member): GroupMembership {
  const others = before.voters.filter((id) => id !== own.replicaId);
  const members = [own, ...others.flatMap((id) => memberOf(before, id) ?? [])].sort((a, b) => a.replicaId - b.replicaId);
  return { voters: [own.replicaId], learners: [], outgoing: null, members, replacing: others, epoch: before.epoch + 1 };
}
