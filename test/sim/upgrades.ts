import { FIRST_FEATURE_LEVEL } from '../../src/broker/feature-level.ts';
import { NO_METRICS } from '../../src/broker/ports.ts';
import type { StartBroker } from './broker-hook.ts';
import { startWith } from './broker-process.ts';

/** Lives of the older release that a replica has at most. */
const MAX_OLD_LIVES = 2;

export interface UpgradingBrokers {
  readonly startBroker: StartBroker;
  /** Brokers that were started as the older release, and as this one. */
  readonly started: { old: number; upgraded: number };
  /** Raises that a leader saw applied. */
  readonly raises: number;
}

/** Replicas that begin as the release of the first level and come back as this one after their first or second death. */
export function upgradingBrokers(seed: number): UpgradingBrokers {
  const lives = new Map<string, number>();
  const counts = { started: { old: 0, upgraded: 0 }, raises: 0 };
  return {
    get started() {
      return counts.started;
    },
    get raises() {
      return counts.raises;
    },
    startBroker: (io, config, ended, event) => {
      const name = `${config.brokerName}-${config.replicaId}`;
      const life = (lives.get(name) ?? 0) + 1;
      lives.set(name, life);
      const old = life <= 1 + ((seed + config.replicaId) % MAX_OLD_LIVES);
      counts.started[old ? 'old' : 'upgraded']++;
      const seen = (what: string, fields: object): void => {
        if (what === 'feature level raised') counts.raises++;
        event(what, fields);
      };
      const metrics = { ...NO_METRICS, event: seen };
      return startWith({ metrics, ...(old ? { newestFeatureLevel: FIRST_FEATURE_LEVEL } : {}) }, io, config, ended, event);
    },
  };
}
