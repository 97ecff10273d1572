import { readdirSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CONFIG_KEYS, environmentOf, flagOf, resolveConfig } from '../../src/config.ts';

const ROOT = resolve(import.meta.dirname, '..', '..');
const BASE = join(ROOT, 'k8s', 'base');
const file = (name: string): string => readFileSync(join(BASE, name), 'utf8');
const all = readdirSync(BASE).map(file).join('\n');
const literals = Object.fromEntries(
  [...file('kustomization.yaml').matchAll(/- (LEDGERMQ_\w+)=(.*)$/gm)].map(([, name, value]) => [name, value]),
);

/** What the manifests say is checked against the program by their text: a YAML parser would be a dependency for this alone. */
describe('k8s/base', () => {
  test('every variable and every flag is a setting', () => {
    const known = CONFIG_KEYS.map(environmentOf);
    const named = [...new Set([...all.matchAll(/\bLEDGERMQ_[A-Z_]+\b/g)].map(([name]) => name))];
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !known.includes(name))).toEqual([]);
    const flags = [...file('statefulset.yaml').matchAll(/^\s+--([a-z-]+) /gm)].map(([, flag]) => flag as string);
    expect(flags).toContain('replica-id');
    expect(flags.filter((flag) => !CONFIG_KEYS.map(flagOf).includes(flag))).toEqual([]);
  });

  test('each pod of the set gets a valid configuration of its own', () => {
    const set = file('statefulset.yaml');
    const pods = Number(/^ {2}replicas: (\d+)$/m.exec(set)?.[1]);
    expect(pods).toBe(3);
    for (let ordinal = 0; ordinal < pods; ordinal++) {
      const config = resolveConfig({
        env: literals,
        flags: { replicaId: ordinal + 1, advertisedHost: `ledgermq-a-${ordinal}.ledgermq-a` },
      });
      // A pod's stable name is POD.SERVICE; the replica that it runs must be the one of that name in the list.
      expect(config.replicas[ordinal]).toEqual({ replicaId: ordinal + 1, host: config.advertisedHost, port: config.port });
      expect(config.replicas).toHaveLength(pods);
    }
    expect(set).toMatch(/--replica-id \$\(\(\$\{POD_NAME##\*-\} \+ 1\)\)/);
    // Kubernetes makes NAME_PORT variables of Services, and one is named like the program.
    expect(set).toContain('enableServiceLinks: false');
    expect(set).toContain('serviceName: ledgermq-a\n');
    expect(file('services.yaml')).toContain('publishNotReadyAddresses: true');
  });

  test('ports are P, P+1 and P+2 everywhere, and probes ask paths that are served', () => {
    const port = Number(literals['LEDGERMQ_PORT']);
    const ports = [...all.matchAll(/name: (client|peers|admin), (?:containerPort|port): (\d+)/g)];
    expect(ports).toHaveLength(7);
    const expected: Record<string, number> = { client: port, peers: port + 1, admin: port + 2 };
    for (const [, name, value] of ports) expect([name, Number(value)]).toEqual([name, expected[name as string]]);
    const served = readFileSync(join(ROOT, 'src', 'gateway', 'admin-http.ts'), 'utf8');
    const probes = [...file('statefulset.yaml').matchAll(/(\w+)Probe:\s+httpGet: \{ path: \/(\w+), port: (\w+) \}/g)];
    expect(probes.map(([, probe, path, target]) => [probe, path, target])).toEqual([
      ['startup', 'startupz', 'admin'],
      ['readiness', 'readyz', 'admin'],
      ['liveness', 'livez', 'admin'],
    ]);
    for (const [, , path] of probes) expect(served).toContain(`path === '${path}'`);
  });

  test('the pod is given longer to end than the drain takes', () => {
    const seconds = Number(/terminationGracePeriodSeconds: (\d+)/.exec(all)?.[1]);
    const { drainTimeoutMs, electionTimeoutMs } = resolveConfig({ env: literals, flags: { replicaId: 1 } });
    expect(seconds * 1000).toBeGreaterThan(drainTimeoutMs + 2 * electionTimeoutMs + 10_000);
    expect(file('statefulset.yaml')).toContain(`mountPath: ${literals['LEDGERMQ_DATA_DIR']} `);
  });

  test('the image runs the Node that the tests run', () => {
    const { devDependencies } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { devDependencies: { node: string } };
    const images = [...readFileSync(join(ROOT, 'k8s', 'Dockerfile'), 'utf8').matchAll(/^FROM node:([\d.]+)/gm)];
    expect(images.map(([, version]) => version)).toEqual([devDependencies.node, devDependencies.node]);
  });
});
