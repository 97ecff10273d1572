import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';

/** Directories in the place of volumes: a claim's lives on under the claim's name, whatever pod mounts it on whatever node. */
export class Volumes {
  readonly #root: string;
  #scratch = 0;
  /** Claims that go when no pod uses them any more (`kubectl delete pvc --wait=false`). */
  readonly #doomed = new Set<string>();

  constructor(root: string) {
    this.#root = root;
  }

  path(claim: string): string {
    return join(this.#root, 'claims', claim);
  }

  claims(): string[] {
    return existsSync(join(this.#root, 'claims')) ? readdirSync(join(this.#root, 'claims')).sort() : [];
  }

  /** The claim's directory, made when it is new, with the group that the pod asks for. */
  mount(claim: string, fsGroup: number | undefined): string {
    const path = this.path(claim);
    if (!existsSync(path)) makeDirectory(path, fsGroup);
    return path;
  }

  /** An emptyDir: it ends with its pod. */
  scratch(fsGroup: number | undefined): string {
    const path = join(this.#root, 'scratch', String(++this.#scratch));
    makeDirectory(path, fsGroup);
    return path;
  }

  remove(path: string): void {
    rmSync(path, { recursive: true, force: true, maxRetries: 5 });
  }

  /** Goes at once, or when the last pod that uses it has gone, as Kubernetes protects it. */
  delete(claim: string, inUse: boolean): void {
    if (!existsSync(this.path(claim))) throw new Error(`persistentvolumeclaims "${claim}" not found`);
    if (inUse) this.#doomed.add(claim);
    else this.remove(this.path(claim));
  }

  isDoomed(claim: string): boolean {
    return this.#doomed.has(claim);
  }

  released(claim: string): void {
    if (this.#doomed.delete(claim)) this.remove(this.path(claim));
  }
}

/** As a fresh file system is handed over: root's, writable for the pod's fsGroup and for nobody else. */
function makeDirectory(path: string, fsGroup: number | undefined): void {
  mkdirSync(path, { recursive: true });
  if (fsGroup !== undefined) chownSync(path, 0, fsGroup);
  // With the sticky group bit: what is made in it belongs to the group.
  chmodSync(path, fsGroup === undefined ? 0o755 : 0o2775);
}
