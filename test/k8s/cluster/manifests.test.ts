import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { CONFIG_KEYS, environmentOf, flagOf, resolveConfig } from '../../../src/config.ts';
import {
  type Container,
  isBudget,
  isConfigMap,
  isNetworkPolicy,
  isService,
  isStatefulSet,
  type KubeObject,
  portNumber,
  type StatefulSet,
  selects,
} from '../objects.ts';
import { objectsOf, ROOT } from '../tools.ts';

/** Ordinals up to five replicas: three form the group, the others are added later. */
const ORDINALS = [0, 1, 2, 3, 4];
const RENDERED = { 'k8s/base': 1, 'k8s/overlays/dev': 1, 'k8s/overlays/prod': 3 };

describe.each(Object.entries(RENDERED))('%s, rendered', (kustomization, groups) => {
  let objects: KubeObject[] = [];
  let sets: StatefulSet[] = [];
  beforeAll(async () => {
    objects = await objectsOf(kustomization);
    sets = objects.filter(isStatefulSet);
  }, 600_000);
  const container = (set: StatefulSet): Container => set.spec.template.spec.containers[0] as Container;
  const settingsOf = (set: StatefulSet): Record<string, string> => {
    const names = container(set).envFrom?.map(({ configMapRef }) => configMapRef.name) ?? [];
    return Object.assign({}, ...objects.filter(isConfigMap).flatMap(({ metadata, data }) => (names.includes(metadata.name) ? [data] : [])));
  };

  test('F41 one namespace for all, and no group beside those that are meant', () => {
    expect(sets).toHaveLength(groups);
    const others = objects.filter(({ kind, metadata }) => kind !== 'Namespace' && metadata.namespace !== 'ledgermq');
    expect(others.map(({ metadata }) => metadata.name)).toEqual([]);
  });

  test('F41 every variable is a setting', () => {
    const known = CONFIG_KEYS.map(environmentOf);
    const named = sets.flatMap((set) => [...Object.keys(settingsOf(set)), ...(container(set).env ?? []).map(({ name }) => name)]);
    expect(named.filter((name) => name.startsWith('LEDGERMQ_') && !known.includes(name))).toEqual([]);
    expect(named.filter((name) => name.startsWith('LEDGERMQ_')).length).toBeGreaterThan(5);
  });

  test('F41 each pod of a set gets a configuration of its own, valid, also one that is added later', () => {
    for (const set of sets) {
      for (const ordinal of ORDINALS) {
        const { config, env } = configurationOf(set.metadata.name, ordinal, container(set), settingsOf(set));
        const forming = settingsOf(set)['LEDGERMQ_REPLICAS']?.split(',').length as number;
        expect(config.brokerName).toBe(set.metadata.labels?.['ledgermq.io/group']);
        expect(config.replicaId).toBe(ordinal + 1);
        // Clients of every namespace, and the peers of this one.
        expect(config.advertisedHost).toBe(`${set.metadata.name}-${ordinal}.${set.spec.serviceName}.ledgermq.svc`);
        expect(config.replicas).toHaveLength(forming + Number(ordinal >= forming));
        const own = config.replicas.find(({ replicaId }) => replicaId === ordinal + 1);
        expect(own).toEqual({ replicaId: ordinal + 1, host: `${set.metadata.name}-${ordinal}.${set.spec.serviceName}`, port: config.port });
        expect(env['LEDGERMQ_SEEDS']?.includes(own?.host as string) ?? false).toBe(false);
      }
    }
  });

  test('F41 the set, its headless service, its budget and its spread select the pods of this group, and no others', () => {
    for (const set of sets) {
      const { labels } = set.spec.template.metadata;
      const others = sets.filter((other) => other !== set).map((other) => other.spec.template.metadata.labels);
      const { affinity, topologySpreadConstraints = [] } = set.spec.template.spec;
      const headless = objects.filter(isService).find(({ metadata }) => metadata.name === set.spec.serviceName);
      expect(headless?.spec).toMatchObject({ clusterIP: 'None', publishNotReadyAddresses: true });
      const budgets = objects.filter(isBudget).filter(({ spec }) => selects(spec.selector.matchLabels, labels));
      expect(budgets.map(({ spec }) => spec.maxUnavailable)).toEqual([1]);
      const antiAffinity = affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
      expect(antiAffinity.map(({ topologyKey }) => topologyKey)).toEqual(['kubernetes.io/hostname']);
      const [zones] = topologySpreadConstraints;
      expect(zones).toMatchObject({ topologyKey: 'topology.kubernetes.io/zone' });
      if (groups > 1) expect(zones?.whenUnsatisfiable).toBe('DoNotSchedule');
      const selectors = [
        set.spec.selector.matchLabels,
        headless?.spec.selector ?? {},
        ...budgets.map(({ spec }) => spec.selector.matchLabels),
        ...antiAffinity.map(({ labelSelector }) => labelSelector.matchLabels),
        ...topologySpreadConstraints.map(({ labelSelector }) => labelSelector.matchLabels),
      ];
      for (const selector of selectors) {
        expect(selects(selector, labels)).toBe(true);
        expect(others.filter((other) => selects(selector, other))).toEqual([]);
      }
    }
  });

  test('F41 the client service and the network policy are for the pods of every group', () => {
    const client = objects.filter(isService).find(({ metadata }) => metadata.name === 'ledgermq');
    const policies = objects.filter(isNetworkPolicy);
    expect(policies).toHaveLength(1);
    for (const set of sets) {
      expect(selects(client?.spec.selector ?? { no: 'service' }, set.spec.template.metadata.labels)).toBe(true);
      expect(selects(policies[0]?.spec.podSelector.matchLabels ?? { no: 'policy' }, set.spec.template.metadata.labels)).toBe(true);
    }
    // Without it every pod that is not ready would be given to clients.
    expect(client?.spec.publishNotReadyAddresses).toBeUndefined();
  });

  test('F41 ports are P, P+1 and P+2 everywhere, and what names a port names one that is there', () => {
    for (const set of sets) {
      const broker = container(set);
      const port = Number(settingsOf(set)['LEDGERMQ_PORT']);
      expect(broker.ports.map(({ name, containerPort, protocol }) => [name, containerPort, protocol])).toEqual([
        ['client', port, undefined],
        ['peers', port + 1, undefined],
        ['gossip', port + 1, 'UDP'],
        ['admin', port + 2, undefined],
      ]);
      for (const { spec } of objects.filter(isService)) {
        if (!selects(spec.selector, set.spec.template.metadata.labels)) continue;
        // Replicas and clients are told the container's port, whatever service they came by.
        for (const each of spec.ports) expect(portNumber(broker, each.targetPort)).toBe(each.port);
      }
      for (const { spec } of objects.filter(isNetworkPolicy)) {
        const named = [...spec.ingress, ...spec.egress].flatMap(({ ports }) => ports).filter((each) => typeof each.port === 'string');
        for (const { port: name, protocol } of named) {
          const found = broker.ports.find((each) => each.name === name);
          expect([name, found?.protocol ?? (found && 'TCP')]).toEqual([name, protocol]);
        }
      }
    }
  });

  test('F41 probes ask paths that are served, each for its own question', () => {
    const served = readFileSync(join(ROOT, 'src', 'gateway', 'admin-http.ts'), 'utf8');
    for (const set of sets) {
      const { startupProbe, readinessProbe, livenessProbe } = container(set);
      const asked = [startupProbe, readinessProbe, livenessProbe].map((probe) => [probe?.httpGet.path, probe?.httpGet.port]);
      expect(asked).toEqual([
        ['/startupz', 'admin'],
        ['/readyz', 'admin'],
        ['/livez', 'admin'],
      ]);
      for (const [path] of asked) expect(served).toContain(`path === '${(path as string).slice(1)}'`);
      // A large log is recovered within the budget; a slow disk does not restart a broker.
      expect((startupProbe?.periodSeconds ?? 0) * (startupProbe?.failureThreshold ?? 0)).toBeGreaterThanOrEqual(3600);
      expect((livenessProbe?.periodSeconds ?? 0) * (livenessProbe?.failureThreshold ?? 0)).toBeGreaterThanOrEqual(60);
    }
  });

  test('F41 a pod is given longer to end than preStop and the drain take', () => {
    for (const set of sets) {
      const hook = container(set).lifecycle?.preStop?.exec.command.at(-1) ?? '';
      const preStopS = Number(/--timeout (\d+)/.exec(hook)?.[1]) + Number(/sleep (\d+)$/.exec(hook)?.[1]);
      const { drainTimeoutMs, electionTimeoutMs } = resolveConfig({ env: settingsOf(set), flags: { replicaId: 1 } });
      const needsMs = preStopS * 1000 + drainTimeoutMs + 2 * electionTimeoutMs + 10_000;
      expect((set.spec.template.spec.terminationGracePeriodSeconds ?? 0) * 1000).toBeGreaterThan(needsMs);
    }
  });

  test('F41 what the namespace enforces holds: no root, nothing writable but the volumes, no capability, no token', () => {
    expect(objects.find(({ kind }) => kind === 'Namespace')?.metadata.labels).toMatchObject({
      'pod-security.kubernetes.io/enforce': 'restricted',
    });
    for (const set of sets) {
      const { spec } = set.spec.template;
      expect(spec.securityContext).toMatchObject({ runAsNonRoot: true, seccompProfile: { type: 'RuntimeDefault' } });
      expect(spec.securityContext?.runAsUser).toBeGreaterThan(0);
      expect(spec.securityContext?.fsGroup).toBe(spec.securityContext?.runAsGroup);
      expect(container(set).securityContext).toEqual({
        allowPrivilegeEscalation: false,
        readOnlyRootFilesystem: true,
        capabilities: { drop: ['ALL'] },
      });
      expect(spec.automountServiceAccountToken).toBe(false);
      // Kubernetes makes NAME_PORT variables of services, and one is named like the program.
      expect(spec.enableServiceLinks).toBe(false);
      expect(container(set).volumeMounts?.find(({ name }) => name === 'data')?.mountPath).toBe(settingsOf(set)['LEDGERMQ_DATA_DIR']);
    }
  });
});

/** Runs the container's command with a program that says how it was called, and resolves that as the broker would. */
function configurationOf(set: string, ordinal: number, container: Container, settings: Record<string, string>) {
  const scratch = mkdtempSync(join(tmpdir(), 'ledgermq-pod-'));
  try {
    writeFileSync(join(scratch, 'ledgermq'), '#!/bin/sh\nfor word in "$@"; do printf "%s\\n" "$word"; done\n', { mode: 0o755 });
    const env = { ...settings, PATH: `${scratch}:/usr/bin:/bin`, POD_NAME: `${set}-${ordinal}`, POD_NAMESPACE: 'ledgermq' };
    const [program, ...words] = [...container.command, ...(container.args ?? [])] as [string, ...string[]];
    const [command, ...given] = execFileSync(program, words, { env, encoding: 'utf8' }).trim().split('\n');
    expect(command).toBe('broker');
    const flags: Record<string, string> = {};
    for (let at = 0; at < given.length; at += 2) {
      const key = CONFIG_KEYS.find((each) => `--${flagOf(each)}` === given[at]);
      expect([given[at], key]).not.toContain(undefined);
      flags[key as string] = given[at + 1] as string;
    }
    return { config: resolveConfig({ env, flags }), env: settings };
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}
