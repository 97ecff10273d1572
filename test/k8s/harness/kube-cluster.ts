import { type ChildProcess, spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { Prober } from '../../jepsen-lite/cluster/prober.ts';
import { isLeftover, type NetHost, NetHosts, ownerPrefix } from '../../support/net-hosts.ts';
import { isBudget, isStatefulSet, type KubeObject, type StatefulSet, selects } from '../objects.ts';
import type { Image } from './image.ts';
import { Pod } from './pod.ts';
import { environmentOf, MissingReference } from './pod-environment.ts';
import { type KubeNode, type Placed, schedule } from './scheduler.ts';
import { CLUSTER_DOMAIN, type Endpoint, serviceState } from './services.ts';
import { nextStep, revisionOf } from './stateful-sets.ts';
import { Volumes } from './volumes.ts';

/** How often controllers look. */
const TICK_MS = 100;
/** From a change of a pod to what the name server and the kube-proxies know: a cluster that is neither idle nor in trouble. */
const PROPAGATION_MS = 1_500;
const SERVICE_SUBNET = '10.96.0.0/16';

export interface KubeEvent {
  readonly atMs: number;
  readonly pod: string;
  readonly what: string;
  readonly detail: string;
}

/** Three zones, two nodes each. */
const NODES = ['n1', 'n2', 'n3', 'n4', 'n5', 'n6'];
const ZONES = ['west', 'middle', 'east'];

/**
 * A Kubernetes cluster in little, for rendered manifests: its containers are processes in network namespaces, its controllers, kubelets,
 * services and names are this class and what it is made of. One client host, in another namespace than the brokers.
 */
export class KubeCluster {
  readonly hosts: NetHosts;
  readonly client: NetHost;
  readonly directory: string;
  readonly volumes: Volumes;
  readonly events: KubeEvent[] = [];
  readonly #image: Image;
  readonly #prober: Prober;
  readonly #names: ChildProcess;
  readonly #nameServer: NetHost;
  readonly #pods = new Map<string, Pod>();
  /** Bound to a node, and not running yet. */
  readonly #starting = new Map<string, Placed>();
  readonly #waiting = new Map<string, string>();
  #objects: readonly KubeObject[] = [];
  #nodes: readonly KubeNode[];
  #podNumber = 0;
  #published = '';
  #publishing: Promise<void> = Promise.resolve();
  #stopped = false;
  #loop: Promise<void> = Promise.resolve();
  /** What went wrong in a controller; the next look throws it. */
  #failure: Error | null = null;

  private constructor(hosts: NetHosts, names: { host: NetHost; child: ChildProcess }, kubelet: NetHost, client: NetHost, image: Image) {
    this.hosts = hosts;
    this.client = client;
    this.#names = names.child;
    this.#image = image;
    this.directory = mkdtempSync(join(tmpdir(), `${ownerPrefix()}kube-`));
    this.volumes = new Volumes(join(this.directory, 'volumes'));
    this.#prober = new Prober(hosts, kubelet);
    this.#nodes = NODES.map((name, index) => ({
      name,
      labels: { 'kubernetes.io/hostname': name, 'topology.kubernetes.io/zone': ZONES[index % ZONES.length] as string },
      unschedulable: false,
    }));
    this.#nameServer = names.host;
    this.#resolver(client, 'default');
  }

  static async start(image: Image): Promise<KubeCluster> {
    const hosts = await NetHosts.create();
    sweepDirectories();
    try {
      const names = await hosts.add('names');
      const server = hosts.spawn(names, process.execPath, [join(import.meta.dirname, 'name-server.ts')], {
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      server.stdin?.on('error', () => undefined);
      await firstLine(server);
      const [kubelet, client] = [await hosts.add('kubelet'), await hosts.add('client')];
      await hosts.run(client, 'ip', ['route', 'add', SERVICE_SUBNET, 'dev', 'eth0']);
      const cluster = new KubeCluster(hosts, { host: names, child: server }, kubelet, client, image);
      cluster.#loop = cluster.#control();
      return cluster;
    } catch (error) {
      await hosts.destroy();
      throw error;
    }
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#loop;
    for (const pod of this.#pods.values()) pod.abandon();
    this.#prober.end();
    this.#names.stdin?.end();
    await this.hosts.destroy();
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 5 });
  }
  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  // ---- objects -------------------------------------------------------------------------------------------------------------

  get objects(): readonly KubeObject[] {
    return this.#objects;
  }

  /** `kubectl apply`: replaces what has the same kind and name, leaves the rest. */
  apply(objects: readonly KubeObject[]): void {
    const same = (a: KubeObject, b: KubeObject): boolean => a.kind === b.kind && a.metadata.name === b.metadata.name;
    this.#objects = [...this.#objects.filter((old) => !objects.some((each) => same(old, each))), ...objects];
  }

  remove(kind: string, name: string): void {
    this.#objects = this.#objects.filter((each) => each.kind !== kind || each.metadata.name !== name);
  }

  sets(): StatefulSet[] {
    return this.#objects.filter(isStatefulSet);
  }

  set(name: string): StatefulSet {
    const found = this.sets().find(({ metadata }) => metadata.name === name);
    if (found === undefined) throw new Error(`statefulsets.apps "${name}" not found`);
    return found;
  }

  // ---- pods ----------------------------------------------------------------------------------------------------------------

  pods(set?: string): Pod[] {
    if (this.#failure !== null) throw this.#failure;
    return [...this.#pods.values()].filter((pod) => set === undefined || pod.set.metadata.name === set);
  }

  pod(name: string): Pod {
    const found = this.pods().find((pod) => pod.name === name);
    if (found === undefined) throw new Error(`pods "${name}" not found${this.#waiting.has(name) ? `: ${this.#waiting.get(name)}` : ''}`);
    return found;
  }

  /** Why pods that should be there are not. */
  get pending(): ReadonlyMap<string, string> {
    return this.#waiting;
  }

  /** `kubectl rollout status`: all pods there, of the set's template, and available. */
  isRolledOut(name: string): boolean {
    const set = this.set(name);
    const pods = this.pods(name);
    const current = pods.filter((pod) => pod.revision === revisionOf(set) && pod.isAvailable);
    return pods.length === set.spec.replicas && current.length === pods.length;
  }

  async exec(name: string, ...command: string[]): Promise<string> {
    const { exit, stdout, stderr } = await this.pod(name).exec(command);
    if (exit !== 0) throw new Error(`${name}: ${command.join(' ')}: exit ${exit}: ${stderr}${stdout}`);
    return stdout;
  }

  ask(pod: Pod, path: string): Promise<{ readonly status: number; readonly text: string }> {
    return this.#prober.ask(`http://${pod.host.address}:7462${path}`, 3000);
  }

  // ---- nodes ---------------------------------------------------------------------------------------------------------------

  cordon(node: string, unschedulable: boolean): void {
    this.#nodes = this.#nodes.map((each) => (each.name === node ? { ...each, unschedulable } : each));
  }

  /** `kubectl drain`: asks for an eviction of each pod there until all are granted, and waits until the pods have gone. */
  async drain(node: string): Promise<void> {
    this.cordon(node, true);
    for (;;) {
      const there = this.pods().filter((pod) => pod.node === node);
      if (there.length === 0) return;
      for (const pod of there) if (!pod.isTerminating) this.#evict(pod);
      await sleep(TICK_MS);
    }
  }

  /** @returns whether the budgets let it go; it is being stopped then */
  #evict(pod: Pod): boolean {
    for (const { spec } of this.#objects.filter(isBudget)) {
      if (!selects(spec.selector.matchLabels, pod.labels)) continue;
      const expected = this.sets().filter((set) => selects(spec.selector.matchLabels, set.spec.template.metadata.labels));
      const desired = expected.reduce((sum, set) => sum + set.spec.replicas, 0) - spec.maxUnavailable;
      const healthy = this.pods().filter((each) => selects(spec.selector.matchLabels, each.labels) && each.isReady).length;
      // IfHealthyBudget: one that is not healthy may go when enough others are; a healthy one when enough are left.
      if (pod.isReady ? healthy - 1 < desired : healthy < desired) return false;
    }
    this.#event(pod.name, 'evicted', `from ${pod.node}`);
    void pod.terminate();
    return true;
  }

  /** A machine dies with all that runs on it, and is known to be off (the taint node.kubernetes.io/out-of-service). */
  async loseNode(node: string): Promise<void> {
    this.cordon(node, true);
    await Promise.all(
      this.pods()
        .filter((pod) => pod.node === node)
        .map((pod) => pod.crash()),
    );
  }

  // ---- controllers ---------------------------------------------------------------------------------------------------------

  async #control(): Promise<void> {
    while (!this.#stopped) {
      try {
        for (const set of this.sets()) this.#reconcile(set);
        for (const pod of this.#pods.values()) {
          if (!this.sets().some(({ metadata }) => metadata.name === pod.set.metadata.name)) this.#terminate(pod);
        }
        this.#publish();
      } catch (error) {
        this.#failure ??= error as Error;
      }
      await sleep(TICK_MS);
    }
  }

  #reconcile(set: StatefulSet): void {
    const { create, remove } = nextStep(
      set,
      [...this.#pods.values()].filter((pod) => pod.set.metadata.name === set.metadata.name),
    );
    for (const ordinal of create) this.#create(set, ordinal);
    for (const ordinal of remove) this.#terminate(this.#pods.get(`${set.metadata.name}-${ordinal}`) as Pod);
  }

  #terminate(pod: Pod): void {
    pod.terminate().catch((error: Error) => {
      this.#failure ??= error;
    });
  }

  #create(set: StatefulSet, ordinal: number): void {
    const name = `${set.metadata.name}-${ordinal}`;
    if (this.#starting.has(name)) return;
    const { spec, metadata } = set.spec.template;
    const node = schedule(spec, metadata.labels, this.#nodes, [...this.#pods.values(), ...this.#starting.values()]);
    if (node === null) return void this.#waiting.set(name, 'no node fits');
    if (this.#claimsOf(set, name).some((claim) => this.volumes.isDoomed(claim)))
      return void this.#waiting.set(name, 'its claim is being deleted');
    const fields = { 'metadata.name': name, 'metadata.namespace': set.metadata.namespace ?? 'default', 'spec.nodeName': node.name };
    let environment: Record<string, string>;
    try {
      environment = environmentOf(spec.containers[0] as StatefulSet['spec']['template']['spec']['containers'][0], this.#objects, fields);
    } catch (error) {
      if (!(error instanceof MissingReference)) throw error;
      return void this.#waiting.set(name, error.message);
    }
    this.#waiting.delete(name);
    this.#starting.set(name, { node: node.name, labels: metadata.labels });
    void this.#run(set, ordinal, node.name, environment).finally(() => this.#starting.delete(name));
  }

  async #run(set: StatefulSet, ordinal: number, node: string, environment: Record<string, string>): Promise<void> {
    const name = `${set.metadata.name}-${ordinal}`;
    try {
      const host = await this.hosts.add(`p${++this.#podNumber}`);
      this.#resolver(host, set.metadata.namespace ?? 'default');
      const pod = new Pod({
        set,
        ordinal,
        revision: revisionOf(set),
        node,
        hosts: this.hosts,
        host,
        prober: this.#prober,
        image: this.#image,
        volumes: this.volumes,
        environment,
        directory: this.directory,
        event: (what, detail = '') => this.#podEvent(name, what, detail),
      });
      this.#pods.set(name, pod);
    } catch (error) {
      if (!this.#stopped) this.#failure ??= error as Error;
    }
  }

  #podEvent(name: string, what: string, detail: string): void {
    this.#event(name, what, detail);
    if (what !== 'gone') return;
    const pod = this.#pods.get(name) as Pod;
    this.#pods.delete(name);
    for (const claim of pod.claims) this.volumes.released(claim);
  }

  #claimsOf(set: StatefulSet, pod: string): string[] {
    return (set.spec.volumeClaimTemplates ?? []).map(({ metadata }) => `${metadata.name}-${pod}`);
  }

  #event(pod: string, what: string, detail: string): void {
    this.events.push({ atMs: performance.now(), pod, what, detail });
  }

  // ---- services ------------------------------------------------------------------------------------------------------------

  /** By what a pod of that namespace would have in its resolv.conf. */
  #resolver(host: NetHost, namespace: string): void {
    const search = [`${namespace}.svc.${CLUSTER_DOMAIN}`, `svc.${CLUSTER_DOMAIN}`, CLUSTER_DOMAIN].join(' ');
    const directory = join('/etc/netns', host.namespace);
    mkdirSync(directory, { recursive: true });
    writeFileSync(
      join(directory, 'resolv.conf'),
      `search ${search}\nnameserver ${this.#nameServer.address}\noptions ndots:5 timeout:1 attempts:3\n`,
    );
  }

  /** What services look like now is known everywhere a while later. */
  #publish(): void {
    const endpoints = [...this.#pods.values()].map(
      (pod): Endpoint => ({
        name: pod.name,
        address: pod.host.address,
        labels: pod.labels,
        subdomain: pod.set.spec.serviceName,
        isReady: pod.isReady,
      }),
    );
    const { names, proxyRules } = serviceState(this.#objects, endpoints);
    const state = JSON.stringify([names, proxyRules]);
    if (state === this.#published) return;
    this.#published = state;
    const due = sleep(PROPAGATION_MS);
    this.#publishing = this.#publishing.then(async () => {
      await due;
      if (this.#stopped) return;
      this.#names.stdin?.write(`${JSON.stringify(names)}\n`);
      await this.#proxy(proxyRules);
    });
    this.#publishing.catch((error: Error) => {
      if (!this.#stopped) this.#failure ??= error;
    });
  }

  async #proxy(rules: string): Promise<void> {
    const child = spawn('ip', ['netns', 'exec', this.client.namespace, 'nft', '-f', '-'], { stdio: ['pipe', 'ignore', 'pipe'] });
    let trouble = '';
    child.stderr?.on('data', (text) => {
      trouble += text;
    });
    child.stdin?.end(rules);
    const code = await new Promise((resolve) => child.once('close', resolve));
    if (code !== 0 && !this.#stopped) throw new Error(`nft: ${trouble}\n${rules}`);
  }
}

/** Volumes and images of runs that were killed. */
function sweepDirectories(): void {
  for (const name of readdirSync(tmpdir())) {
    if (/-(kube|image)-/.test(name) && isLeftover(name)) rmSync(join(tmpdir(), name), { recursive: true, force: true });
  }
}

function firstLine(child: ChildProcess): Promise<string> {
  return new Promise((resolve, reject) => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).once('line', resolve);
    child.once('exit', (code) => reject(new Error(`the name server ended with ${code}`)));
  });
}
