import { createRequire } from 'node:module';
import type { BrokerConfig } from '../config.ts';
import type { AdminStatus, HealthCheck, HealthChecks } from '../gateway/admin-http.ts';
import type { ServerView } from './server-view.ts';

const check = (name: string, ok: () => boolean, detail: () => string): HealthCheck => ({
  name,
  check: () => (ok() ? { ok: true } : { ok: false, detail: detail() }),
});

/**
 * Split by who asks. Alive: this event loop turns and the store is not poisoned; never the state of others, or a lost
 * quorum would restart every replica. Started: the log is recovered. Ready: this replica serves, and
 * the group may do without another one.
 */
export function healthOf(server: ServerView): HealthChecks {
  const store = check(
    'store',
    () => server.state !== 'failed' && (server.recovered?.log.poisoned ?? null) === null,
    () => server.recovered?.log.poisoned?.message ?? 'failed',
  );
  const recovered = check(
    'log-recovered',
    () => server.recovered !== null,
    () => 'recovering',
  );
  const formed = check(
    'group-formed',
    () => server.replica !== null,
    () => `waiting for replica ${server.missing.join(', ')}`,
  );
  const leader = check(
    'leader-known',
    () => (server.replica?.role().leader ?? 0) !== 0,
    () => 'no leader is known',
  );
  // Not how far behind it is now, which changes with every load: a rollout and a budget must not count on it before it has caught up.
  const inStep = check(
    'in-step',
    () => server.replica?.caughtUp === true,
    () => 'not a voter, or not caught up with the leader since the start',
  );
  const serving = check(
    'serving',
    () => server.state === 'running' && (server.replica?.role().role !== 'leader' || server.broker?.ready === true),
    () => (server.state === 'running' ? 'the new leader has not applied what was committed before it' : server.state),
  );
  return { livez: [store], startupz: [recovered], readyz: [store, recovered, formed, leader, inStep, serving] };
}

const { version } = createRequire(import.meta.url)('../../package.json') as { version: string };

/** /api/status: also before the group is formed, when there is no Raft yet. */
export function statusOf(server: ServerView, config: BrokerConfig, uptimeMs: number): AdminStatus {
  const raft = server.replica?.status() ?? {
    brokerName: config.brokerName,
    replicaId: config.replicaId,
    role: server.state,
    term: 0,
    leader: 0,
    firstIndex: 0,
    lastIndex: 0,
    durableIndex: 0,
    commitIndex: 0,
    appliedIndex: 0,
    startPosition: 0,
    endPosition: 0,
    peers: [],
    stateDigest: 0,
  };
  const state = server.stateMachine;
  const levels = state === null ? {} : { featureLevel: state.featureLevel, newestFeatureLevel: state.newestFeatureLevel };
  return { ...raft, ...levels, clusterId: config.clusterId, version, uptimeMs };
}
