import { type Labels, type PodSpec, selects } from '../objects.ts';

export interface KubeNode {
  readonly name: string;
  readonly labels: Labels;
  /** Cordoned: no further pod comes here. */
  readonly unschedulable: boolean;
}
export interface Placed {
  readonly node: string;
  readonly labels: Labels;
}

/**
 * The node that a pod may run on, or null: it stays pending. Of several the one that has most pods already: what keeps replicas apart
 * must be said by the manifest, luck does not help it.
 */
export function schedule(spec: PodSpec, labels: Labels, nodes: readonly KubeNode[], placed: readonly Placed[]): KubeNode | null {
  const feasible = nodes.filter(
    (node) => !node.unschedulable && keepsApart(spec, node, nodes, placed) && spreads(spec, labels, node, nodes, placed),
  );
  const pods = (node: KubeNode): number => placed.filter((each) => each.node === node.name).length;
  return feasible.toSorted((a, b) => pods(b) - pods(a) || (a.name < b.name ? -1 : 1))[0] ?? null;
}

/** Required anti-affinity: no pod that is selected in the same domain. */
function keepsApart(spec: PodSpec, node: KubeNode, nodes: readonly KubeNode[], placed: readonly Placed[]): boolean {
  const terms = spec.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [];
  return terms.every(({ topologyKey, labelSelector }) => {
    const near = inDomain(topologyKey, node.labels[topologyKey], nodes);
    return !placed.some((pod) => near.includes(pod.node) && selects(labelSelector.matchLabels, pod.labels));
  });
}

/** Topology spread that must hold: no domain has `maxSkew` more than the emptiest one. */
function spreads(spec: PodSpec, labels: Labels, node: KubeNode, nodes: readonly KubeNode[], placed: readonly Placed[]): boolean {
  const hard = (spec.topologySpreadConstraints ?? []).filter(({ whenUnsatisfiable }) => whenUnsatisfiable === 'DoNotSchedule');
  return hard.every(({ maxSkew, topologyKey, labelSelector }) => {
    const count = (domain: string | undefined): number => {
      const near = inDomain(topologyKey, domain, nodes);
      return placed.filter((pod) => near.includes(pod.node) && selects(labelSelector.matchLabels, pod.labels)).length;
    };
    const own = node.labels[topologyKey];
    const domains = new Set(nodes.flatMap((each) => each.labels[topologyKey] ?? []));
    const fewest = Math.min(...[...domains].map(count));
    return own !== undefined && count(own) + Number(selects(labelSelector.matchLabels, labels)) - fewest <= maxSkew;
  });
}

function inDomain(topologyKey: string, domain: string | undefined, nodes: readonly KubeNode[]): string[] {
  return nodes.filter((node) => domain !== undefined && node.labels[topologyKey] === domain).map(({ name }) => name);
}
