import { setTimeout as sleep } from 'node:timers/promises';
import type { KubeObject, Secret, StatefulSet } from '../objects.ts';
import type { KubeCluster } from './kube-cluster.ts';

const ROLLOUT_TIMEOUT_MS = 120_000;
const POLL_MS = 50;

/** What is put for names in a runbook that stand for something, and for what is rendered. */
export interface Given {
  /** NODE → n3, and the like. */
  readonly words?: Readonly<Record<string, string>>;
  /** What `apply -k` of any directory applies. */
  readonly rendered?: readonly KubeObject[];
}

/**
 * The lines of a runbook, as a shell with kubectl would carry them out: the commands that the runbooks use, and no others.
 * @returns what the last `exec` said
 */
export async function kubectl(cluster: KubeCluster, script: string, given: Given = {}): Promise<string> {
  let output = '';
  for (const line of script.split('\n').filter((each) => each.trim() !== '')) {
    const text = Object.entries(given.words ?? {}).reduce((all, [word, value]) => all.replaceAll(word, value), line);
    const words = (text.match(/(?:[^\s"]|"[^"]*")+/g) ?? []).filter((word) => word !== '-n');
    const [program, ...rest] = words;
    if (program !== 'kubectl') throw new Error(`not kubectl: ${line}`);
    if (rest[0] === 'ledgermq') rest.shift();
    output = (await command(cluster, rest, given)) ?? output;
  }
  return output;
}

async function command(cluster: KubeCluster, words: readonly string[], given: Given): Promise<string | undefined> {
  const [verb = '', ...rest] = words;
  const names = rest.filter((word) => !word.startsWith('--'));
  switch (verb) {
    case 'apply':
      cluster.apply(given.rendered ?? []);
      return undefined;
    case 'create':
      cluster.apply([secretOf(rest)]);
      return undefined;
    case 'exec': {
      const [pod = '', separator, ...inside] = rest;
      if (separator !== '--') throw new Error(`kubectl ${words.join(' ')}`);
      return cluster.exec(pod, ...inside);
    }
    case 'scale':
      return scale(cluster, nameOf(names[0]), Number(/--replicas=(\d+)/.exec(words.join(' '))?.[1]));
    case 'rollout':
      if (names[0] === 'restart') return restart(cluster, nameOf(names[1]));
      if (names[0] === 'status') return rolledOut(cluster, nameOf(names[1]));
      break;
    case 'delete':
      return remove(cluster, names[0] as string, names.slice(1), words.includes('--wait=false'));
    case 'drain':
      await cluster.drain(names[0] as string);
      return undefined;
    case 'uncordon':
      cluster.cordon(names[0] as string, false);
      return undefined;
    case 'taint':
      // Said of a machine that is off: nothing of it runs any more.
      await cluster.loseNode(names[1] as string);
      return undefined;
  }
  throw new Error(`no such command here: kubectl ${words.join(' ')}`);
}

function nameOf(resource = ''): string {
  return resource.replace(/^statefulset\//, '');
}

function secretOf(words: readonly string[]): Secret {
  const [kind, type, name = '', literal = ''] = words;
  const [, key = '', value = ''] = /^--from-literal=(\w+)=(.*)$/.exec(literal) ?? [];
  if (kind !== 'secret' || type !== 'generic' || key === '') throw new Error(`kubectl create ${words.join(' ')}`);
  return { apiVersion: 'v1', kind: 'Secret', metadata: { name }, data: { [key]: Buffer.from(value).toString('base64') } };
}

function scale(cluster: KubeCluster, name: string, replicas: number): undefined {
  const set = cluster.set(name);
  cluster.apply([{ ...set, spec: { ...set.spec, replicas } } as StatefulSet]);
}

/** As kubectl does it: an annotation on the template, which makes it another one. */
function restart(cluster: KubeCluster, name: string): undefined {
  const set = cluster.set(name);
  const metadata = { ...set.spec.template.metadata, annotations: { 'kubectl.kubernetes.io/restartedAt': String(performance.now()) } };
  cluster.apply([{ ...set, spec: { ...set.spec, template: { ...set.spec.template, metadata } } } as StatefulSet]);
}

async function rolledOut(cluster: KubeCluster, name: string): Promise<undefined> {
  const deadlineMs = performance.now() + ROLLOUT_TIMEOUT_MS;
  while (!cluster.isRolledOut(name)) {
    if (performance.now() > deadlineMs) throw new Error(`rollout of ${name} is not done: ${tale(cluster)}`);
    await sleep(POLL_MS);
  }
  return undefined;
}

async function remove(cluster: KubeCluster, kind: string, names: readonly string[], leave: boolean): Promise<undefined> {
  for (const name of names) {
    if (kind === 'pod') await cluster.pod(name).terminate();
    else if (kind === 'pvc') {
      const inUse = (): boolean => cluster.pods().some((pod) => pod.claims.includes(name));
      // Without --wait=false kubectl waits for the claim to go, which is when its pod has gone.
      while (!leave && inUse()) await sleep(POLL_MS);
      cluster.volumes.delete(name, inUse());
    } else if (kind === 'statefulset') cluster.remove('StatefulSet', name);
    else throw new Error(`kubectl delete ${kind}`);
  }
}

/** What happened in the cluster, for a message. */
export function tale(cluster: KubeCluster): string {
  const start = cluster.events[0]?.atMs ?? 0;
  const waiting = [...cluster.pending].map(([pod, why]) => `${pod}: ${why}`);
  return [
    '',
    ...cluster.events.map(({ atMs, pod, what, detail }) => `${((atMs - start) / 1000).toFixed(1)} s ${pod} ${what} ${detail}`),
    ...waiting,
  ].join('\n');
}
