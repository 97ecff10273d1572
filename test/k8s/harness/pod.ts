import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Prober } from '../../jepsen-lite/cluster/prober.ts';
import type { NetHost, NetHosts } from '../../support/net-hosts.ts';
import type { Container, Labels, PodSpec, StatefulSet } from '../objects.ts';
import type { Image } from './image.ts';
import { ProbeLoop } from './probes.ts';
import { asUser, type Bind, type RootSpec, rootScript } from './root.ts';
import type { Volumes } from './volumes.ts';

const DEFAULT_GRACE_S = 30;
/** Kubernetes: 10 s, doubled at each further crash up to 5 min. */
const RESTART_BACKOFF_MS = 10_000;
const MAX_RESTART_BACKOFF_MS = 300_000;
const MAX_OUTPUT_BYTES = 16 * 1024 * 1024;

export interface Ran {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface PodOptions {
  readonly set: StatefulSet;
  readonly ordinal: number;
  /** Of the set's template. */
  readonly revision: string;
  readonly node: string;
  readonly hosts: NetHosts;
  readonly host: NetHost;
  readonly prober: Prober;
  readonly image: Image;
  readonly volumes: Volumes;
  readonly environment: Readonly<Record<string, string>>;
  readonly directory: string;
  event(what: string, detail?: string): void;
}

/**
 * One pod of one container, as the kubelet runs it: the container's command in its root and its network, probes that act, a restart
 * when it ends, the hook and the grace period when it is stopped.
 */
export class Pod {
  readonly name: string;
  readonly ordinal: number;
  readonly revision: string;
  readonly node: string;
  readonly labels: Labels;
  readonly host: NetHost;
  readonly #options: PodOptions;
  readonly #spec: PodSpec;
  readonly #container: Container;
  readonly #scratch = new Map<string, string>();
  #child: ChildProcess | null = null;
  #probes: ProbeLoop[] = [];
  #ready = false;
  #readySinceMs = 0;
  #terminating = false;
  #abandoned = false;
  #gone: Promise<void> | null = null;
  restarts = 0;

  constructor(options: PodOptions) {
    const { template } = options.set.spec;
    this.name = `${options.set.metadata.name}-${options.ordinal}`;
    this.ordinal = options.ordinal;
    this.revision = options.revision;
    this.node = options.node;
    this.labels = template.metadata.labels;
    this.host = options.host;
    this.#options = options;
    this.#spec = template.spec;
    this.#container = template.spec.containers[0] as Container;
    for (const volume of template.spec.volumes ?? []) {
      if (volume.emptyDir !== undefined) this.#scratch.set(volume.name, options.volumes.scratch(this.#fsGroup()));
      else throw new Error(`${this.name}: volume ${volume.name} is of a kind that is not known here`);
    }
    this.#start();
  }

  get set(): StatefulSet {
    return this.#options.set;
  }
  /** The container is ready, and was not told to end: clients may be sent here. */
  get isReady(): boolean {
    return this.#ready && !this.#terminating;
  }
  get isTerminating(): boolean {
    return this.#terminating;
  }
  /** Ready for `minReadySeconds`. */
  get isAvailable(): boolean {
    return this.isReady && performance.now() - this.#readySinceMs >= (this.#options.set.spec.minReadySeconds ?? 0) * 1000;
  }
  get pid(): number | null {
    return this.#child?.pid ?? null;
  }
  get claims(): string[] {
    return (this.set.spec.volumeClaimTemplates ?? []).map(({ metadata }) => `${metadata.name}-${this.name}`);
  }
  get logFile(): string {
    return join(this.#options.directory, `${this.name}.log`);
  }

  #fsGroup(): number | undefined {
    return this.#spec.securityContext?.fsGroup;
  }

  #user(): NonNullable<RootSpec['user']> {
    const { runAsUser, runAsGroup, fsGroup, runAsNonRoot } = this.#spec.securityContext ?? {};
    if (runAsNonRoot && !runAsUser) throw new Error(`${this.name}: runAsNonRoot, and no user`);
    const dropped = this.#container.securityContext?.capabilities?.drop ?? [];
    return {
      uid: runAsUser ?? 0,
      gid: runAsGroup ?? 0,
      groups: fsGroup === undefined ? [] : [fsGroup],
      dropCapabilities: dropped.includes('ALL'),
    };
  }

  #mounts(): Bind[] {
    return (this.#container.volumeMounts ?? []).map(({ name, mountPath }) => {
      const claimed = this.set.spec.volumeClaimTemplates?.some(({ metadata }) => metadata.name === name);
      const source = claimed ? this.#options.volumes.mount(`${name}-${this.name}`, this.#fsGroup()) : this.#scratch.get(name);
      if (source === undefined) throw new Error(`${this.name}: no volume ${name}`);
      return { source, target: mountPath };
    });
  }

  #start(): void {
    const { hosts, host, image, environment, directory, event } = this.#options;
    const at = join(directory, `root-${host.name}`);
    mkdirSync(at, { recursive: true });
    const { readOnlyRootFilesystem = false } = this.#container.securityContext ?? {};
    const root: RootSpec = {
      at,
      image: image.directories,
      volumes: this.#mounts(),
      readOnly: readOnlyRootFilesystem,
      user: this.#user(),
      workDir: '/app',
    };
    const script = rootScript(root, [...this.#container.command, ...(this.#container.args ?? [])]);
    const log = openSync(this.logFile, 'a');
    const child = hosts.spawn(host, '/bin/sh', ['-c', script], { env: environment, stdio: ['ignore', log, log], detached: true });
    closeSync(log);
    this.#child = child;
    event('started');
    child.once('exit', (code, signal) => this.#ended(code, signal));
    this.#probe('startup');
  }

  /** The startup probe first, where there is one; then readiness and liveness. Without a readiness probe a started container is ready. */
  #probe(kind: 'startup' | 'others'): void {
    const { startupProbe, readinessProbe, livenessProbe } = this.#container;
    const loop = (probe: typeof startupProbe & object, changed: (passes: boolean) => void): void => {
      this.#probes.push(new ProbeLoop(this.#options.prober, this.host.address, this.#container, probe, { changed }));
    };
    if (kind === 'startup' && startupProbe !== undefined) {
      loop(startupProbe, (passes) => {
        if (!passes) return this.#restart('startup probe failed');
        this.#stopProbes();
        this.#options.event('recovered');
        this.#probe('others');
      });
      return;
    }
    if (readinessProbe === undefined) this.#setReady(true);
    else loop(readinessProbe, (passes) => this.#setReady(passes));
    if (livenessProbe !== undefined) loop(livenessProbe, (passes) => (passes ? undefined : this.#restart('liveness probe failed')));
  }

  #stopProbes(): void {
    for (const probe of this.#probes) probe.stop();
    this.#probes = [];
  }

  #setReady(ready: boolean): void {
    if (ready === this.#ready) return;
    this.#ready = ready;
    if (ready) this.#readySinceMs = performance.now();
    this.#options.event(ready ? 'ready' : 'not ready');
  }

  /** The container is stopped as a pod is, and started again in the same pod. */
  #restart(why: string): void {
    this.#options.event('restart', why);
    this.#stopProbes();
    this.#setReady(false);
    void this.#stopContainer();
  }

  #ended(code: number | null, signal: NodeJS.Signals | null): void {
    this.#child = null;
    this.#stopProbes();
    this.#setReady(false);
    this.#options.event('ended', signal ?? String(code));
    if (this.#terminating) return;
    const backoffMs = this.restarts === 0 ? 0 : Math.min(RESTART_BACKOFF_MS * 2 ** (this.restarts - 1), MAX_RESTART_BACKOFF_MS);
    this.restarts++;
    void sleep(backoffMs).then(() => {
      if (!this.#terminating) this.#start();
    });
  }

  /** `kubectl delete pod`, an eviction, a rollout: the hook, SIGTERM, and SIGKILL when the grace period is over. Again is fine. */
  terminate(): Promise<void> {
    if (this.#gone === null) {
      this.#terminating = true;
      this.#options.event('terminating');
      this.#gone = this.#stopContainer().then(() => this.#leave());
    }
    return this.#gone;
  }

  /** Its machine is gone: no hook, no signal that anybody could answer. */
  crash(): Promise<void> {
    this.#terminating = true;
    this.#options.event('crashed');
    this.#gone ??= this.#kill().then(() => this.#leave());
    return this.#gone;
  }

  /** The harness ends: nothing is started again, and nothing of it is waited for. */
  abandon(): void {
    this.#abandoned = true;
    this.#terminating = true;
    this.#stopProbes();
    this.#child?.kill('SIGKILL');
  }

  async #leave(): Promise<void> {
    this.#stopProbes();
    if (this.#abandoned) return;
    await this.#options.hosts.remove(this.host);
    for (const path of this.#scratch.values()) this.#options.volumes.remove(path);
    this.#options.event('gone');
  }

  async #kill(): Promise<void> {
    this.#child?.kill('SIGKILL');
    while (this.#child !== null) await sleep(10);
  }

  /** All of it within the grace period, which begins with the hook. */
  async #stopContainer(): Promise<void> {
    const graceMs = (this.#spec.terminationGracePeriodSeconds ?? DEFAULT_GRACE_S) * 1000;
    const deadlineMs = performance.now() + graceMs;
    const child = this.#child;
    if (child === null) return;
    const hook = this.#container.lifecycle?.preStop?.exec.command;
    if (hook !== undefined) {
      const ran = await Promise.race([this.exec(hook), sleep(graceMs, null)]);
      this.#options.event('preStop', ran === null ? 'timed out' : `exit ${ran.exit}: ${ran.stdout}${ran.stderr}`.trim());
    }
    this.#options.event('SIGTERM', await this.role());
    child.kill('SIGTERM');
    while (this.#child === child && performance.now() < deadlineMs) await sleep(20);
    if (this.#child !== child) return;
    this.#options.event('SIGKILL', 'the grace period is over');
    child.kill('SIGKILL');
    while (this.#child === child) await sleep(20);
  }

  /** leader, follower, …; 'unknown' when it does not answer. */
  async role(): Promise<string> {
    const { status, text } = await this.#options.prober.ask(`http://${this.host.address}:7462/api/status`);
    return status === 200 ? (JSON.parse(text) as { role: string }).role : 'unknown';
  }

  /** `kubectl exec`: in the container's root, network and user, with its environment. */
  exec(command: readonly string[]): Promise<Ran> {
    const { pid } = this;
    if (pid === null) return Promise.resolve({ exit: 1, stdout: '', stderr: `${this.name}: the container does not run` });
    const words = ['-t', String(pid), '--mount', '--net', '--root', '--wdns=/app', '--', ...asUser(this.#user()), ...command];
    return new Promise((resolve) => {
      const options = { env: this.#options.environment, maxBuffer: MAX_OUTPUT_BYTES };
      execFile('/usr/bin/nsenter', words, options, (error, stdout, stderr) => {
        const exit = error === null ? 0 : typeof error.code === 'number' ? error.code : 1;
        resolve({ exit, stdout, stderr: stderr === '' && error !== null && exit === 1 ? error.message : stderr });
      });
    });
  }

  /** SIGSTOP and the like. */
  signal(signal: NodeJS.Signals): void {
    this.#child?.kill(signal);
  }
}

/** Whether a program is there, for a message before anything is begun. */
export function isInstalled(program: string): Promise<boolean> {
  return new Promise((resolve) => {
    spawn(program, ['--version'], { stdio: 'ignore' })
      .once('error', () => resolve(false))
      .once('exit', (code) => resolve(code === 0));
  });
}
