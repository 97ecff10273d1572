import type { MetricsRegistry } from '../metrics/registry.ts';
import type { BindGauge } from './sampled.ts';
import type { ServerView } from './server-view.ts';

export function bindGossip(registry: MetricsRegistry, gauge: BindGauge, view: ServerView): void {
  const gossip = () => view.gossipCounters;
  const counts = () => view.gossipCounters?.counts;
  registry.source('ledgermq_gossip_members', (emit) => {
    const known = gossip();
    if (known === null || known === undefined) return;
    const members = { alive: 1, suspect: 0, dead: 0 };
    for (const { state } of known.members.values()) members[state]++;
    for (const [state, count] of Object.entries(members)) emit(count, state);
  });
  registry.source('ledgermq_gossip_refused_total', (emit) => {
    for (const [reason, count] of Object.entries(counts()?.refused ?? {})) emit(count, reason);
  });
  gauge('ledgermq_gossip_groups', () => gossip()?.table.groups.size);
  gauge('ledgermq_gossip_topic_records', () => gossip()?.table.topicRows);
  gauge('ledgermq_gossip_rumors', () => gossip()?.rumorCount);
  gauge('ledgermq_gossip_datagrams_in_total', () => counts()?.datagramsIn);
  gauge('ledgermq_gossip_datagrams_out_total', () => counts()?.datagramsOut);
  gauge('ledgermq_gossip_bytes_in_total', () => counts()?.bytesIn);
  gauge('ledgermq_gossip_bytes_out_total', () => counts()?.bytesOut);
  gauge('ledgermq_gossip_records_taken_total', () => counts()?.recordsTaken);
  gauge('ledgermq_gossip_records_dropped_total', () => counts()?.dropped);
  gauge('ledgermq_gossip_conflicts_total', () => counts()?.conflicts);
  gauge('ledgermq_topic_conflicts', () => view.topicConflicts);
  gauge('ledgermq_gossip_suspicions_total', () => counts()?.suspicions);
  gauge('ledgermq_gossip_refutations_total', () => counts()?.refutations);
  gauge('ledgermq_gossip_deaths_total', () => counts()?.deaths);
  gauge('ledgermq_gossip_health_score', () => gossip()?.detector.healthScore);
}
