/** The parts of Kubernetes' objects that the manifests use, under Kubernetes' names. */

export interface Metadata {
  readonly name: string;
  readonly namespace?: string;
  readonly labels?: Labels;
}
export type Labels = Readonly<Record<string, string>>;

export interface KubeObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: Metadata;
}

export interface ConfigMap extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}
/** `data` in base64. */
export interface Secret extends KubeObject {
  readonly data?: Readonly<Record<string, string>>;
}

export interface ServicePort {
  readonly name: string;
  readonly port: number;
  readonly targetPort: number | string;
  readonly protocol?: string;
}
export interface Service extends KubeObject {
  readonly spec: {
    readonly clusterIP?: string;
    readonly publishNotReadyAddresses?: boolean;
    readonly selector: Labels;
    readonly ports: readonly ServicePort[];
  };
}

export interface LabelSelector {
  readonly matchLabels: Labels;
}
export interface PodDisruptionBudget extends KubeObject {
  readonly spec: { readonly maxUnavailable: number; readonly unhealthyPodEvictionPolicy?: string; readonly selector: LabelSelector };
}

export interface PolicyPeer {
  readonly podSelector?: { readonly matchLabels?: Labels };
  readonly namespaceSelector?: { readonly matchLabels?: Labels };
}
export interface PolicyPort {
  readonly protocol: string;
  readonly port: number | string;
}
export interface NetworkPolicy extends KubeObject {
  readonly spec: {
    readonly podSelector: LabelSelector;
    readonly policyTypes: readonly string[];
    readonly ingress: readonly { readonly from?: readonly PolicyPeer[]; readonly ports: readonly PolicyPort[] }[];
    readonly egress: readonly { readonly to?: readonly PolicyPeer[]; readonly ports: readonly PolicyPort[] }[];
  };
}

export interface Probe {
  readonly httpGet: { readonly path: string; readonly port: number | string };
  readonly initialDelaySeconds?: number;
  readonly periodSeconds?: number;
  readonly timeoutSeconds?: number;
  readonly successThreshold?: number;
  readonly failureThreshold?: number;
}

export interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: {
    readonly fieldRef?: { readonly fieldPath: string };
    readonly secretKeyRef?: { readonly name: string; readonly key: string };
    readonly configMapKeyRef?: { readonly name: string; readonly key: string };
  };
}

export interface Container {
  readonly name: string;
  readonly image: string;
  readonly command: readonly string[];
  readonly args?: readonly string[];
  readonly env?: readonly EnvVar[];
  readonly envFrom?: readonly { readonly configMapRef: { readonly name: string } }[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number; readonly protocol?: string }[];
  readonly startupProbe?: Probe;
  readonly readinessProbe?: Probe;
  readonly livenessProbe?: Probe;
  readonly lifecycle?: { readonly preStop?: { readonly exec: { readonly command: readonly string[] } } };
  readonly resources?: unknown;
  readonly securityContext?: {
    readonly allowPrivilegeEscalation?: boolean;
    readonly readOnlyRootFilesystem?: boolean;
    readonly capabilities?: { readonly drop?: readonly string[] };
  };
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

export interface PodSpec {
  readonly containers: readonly Container[];
  readonly serviceAccountName?: string;
  readonly automountServiceAccountToken?: boolean;
  readonly terminationGracePeriodSeconds?: number;
  readonly securityContext?: {
    readonly runAsNonRoot?: boolean;
    readonly runAsUser?: number;
    readonly runAsGroup?: number;
    readonly fsGroup?: number;
    readonly fsGroupChangePolicy?: string;
    readonly seccompProfile?: { readonly type: string };
  };
  readonly enableServiceLinks?: boolean;
  readonly affinity?: {
    readonly podAntiAffinity?: {
      readonly requiredDuringSchedulingIgnoredDuringExecution: readonly {
        readonly topologyKey: string;
        readonly labelSelector: LabelSelector;
      }[];
    };
  };
  readonly topologySpreadConstraints?: readonly {
    readonly maxSkew: number;
    readonly topologyKey: string;
    readonly whenUnsatisfiable: 'DoNotSchedule' | 'ScheduleAnyway';
    readonly labelSelector: LabelSelector;
  }[];
  readonly volumes?: readonly { readonly name: string; readonly emptyDir?: unknown; readonly configMap?: { readonly name: string } }[];
}

export interface StatefulSet extends KubeObject {
  readonly spec: {
    readonly serviceName: string;
    readonly replicas: number;
    readonly podManagementPolicy?: 'OrderedReady' | 'Parallel';
    readonly updateStrategy: { readonly type: string; readonly rollingUpdate?: { readonly partition?: number } };
    readonly minReadySeconds?: number;
    readonly persistentVolumeClaimRetentionPolicy?: { readonly whenDeleted: string; readonly whenScaled: string };
    readonly selector: LabelSelector;
    readonly template: { readonly metadata: { readonly labels: Labels }; readonly spec: PodSpec };
    readonly volumeClaimTemplates?: readonly { readonly metadata: { readonly name: string }; readonly spec: unknown }[];
  };
}

export function isStatefulSet(object: KubeObject): object is StatefulSet {
  return object.kind === 'StatefulSet';
}
export function isService(object: KubeObject): object is Service {
  return object.kind === 'Service';
}
export function isConfigMap(object: KubeObject): object is ConfigMap {
  return object.kind === 'ConfigMap';
}
export function isSecret(object: KubeObject): object is Secret {
  return object.kind === 'Secret';
}
export function isBudget(object: KubeObject): object is PodDisruptionBudget {
  return object.kind === 'PodDisruptionBudget';
}
export function isNetworkPolicy(object: KubeObject): object is NetworkPolicy {
  return object.kind === 'NetworkPolicy';
}

/** Whether every label that the selector asks for is there. An empty selector selects all. */
export function selects(selector: Labels, labels: Labels): boolean {
  return Object.entries(selector).every(([name, value]) => labels[name] === value);
}

/** The container's port of this name, or the number itself. */
export function portNumber(container: Container, port: number | string): number {
  if (typeof port === 'number') return port;
  const found = container.ports.find(({ name }) => name === port);
  if (found === undefined) throw new Error(`container ${container.name} has no port ${port}`);
  return found.containerPort;
}
