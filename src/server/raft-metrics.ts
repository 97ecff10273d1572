import type { MetricsRegistry } from '../metrics/registry.ts';
import type { BindGauge } from './sampled.ts';
import { SERVER_STATES, type ServerView } from './server-view.ts';

export function bindRaft(registry: MetricsRegistry, gauge: BindGauge, view: ServerView): void {
  const role = () => view.replica?.role();
  const log = () => view.recovered?.log;
  const counts = () => view.replica?.counts;
  registry.source('ledgermq_server_state', (emit) => {
    for (const state of SERVER_STATES) emit(Number(view.state === state), state);
  });
  gauge('ledgermq_clock_skew_seconds', () => {
    const { replica } = view;
    return replica === null ? null : replica.clockSkewMs() / 1000;
  });
  gauge('ledgermq_raft_lost_voters', () => view.replica?.lostVoters().length);
  gauge('ledgermq_raft_vote_floor_index', () => view.replica?.voteFloor);
  registry.source('ledgermq_raft_members', (emit) => {
    if (view.replica === null) return;
    const { voters, learners } = view.replica.membership();
    emit(voters.length, 'voter');
    emit(learners.length, 'learner');
  });
  gauge('ledgermq_raft_term', () => role()?.term);
  gauge('ledgermq_raft_is_leader', () => Number(role()?.role === 'leader'));
  gauge('ledgermq_raft_has_leader', () => Number((role()?.leader ?? 0) !== 0));
  gauge('ledgermq_raft_leader_changes_total', () => counts()?.leaderChanges);
  gauge('ledgermq_raft_elections_total', () => counts()?.elections);
  gauge('ledgermq_raft_last_index', () => log()?.lastIndex);
  gauge('ledgermq_raft_durable_index', () => log()?.durableIndex);
  gauge('ledgermq_raft_commit_index', () => view.replica?.commitIndex());
  gauge('ledgermq_raft_applied_index', () => view.replica?.appliedIndex());
  gauge('ledgermq_raft_uncommitted_bytes', () => counts()?.uncommittedBytes);
  gauge('ledgermq_raft_read_barriers_total', () => counts()?.readBarriers);
  gauge('ledgermq_raft_snapshots_sent_total', () => counts()?.snapshotsSent);
  registry.source('ledgermq_raft_refused_proposals_total', (emit) => {
    for (const [reason, count] of Object.entries(counts()?.refusedProposals ?? {})) emit(count, reason);
  });
  registry.source('ledgermq_raft_hand_overs_total', (emit) => {
    for (const [reason, count] of Object.entries(counts()?.handOvers ?? {})) emit(count, reason);
  });
  registry.source('ledgermq_raft_peer_match_index', (emit) => {
    for (const peer of view.replica?.status().peers ?? []) emit(peer.matchIndex, String(peer.replicaId));
  });
  registry.source('ledgermq_raft_peer_silent_seconds', (emit) => {
    for (const peer of view.replica?.status().peers ?? []) emit(peer.silentMs / 1000, String(peer.replicaId));
  });
}
