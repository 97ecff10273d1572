import { isService, type KubeObject, type Service, selects } from '../objects.ts';

/** What services see of a pod. */
export interface Endpoint {
  readonly name: string;
  readonly address: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly subdomain: string;
  readonly isReady: boolean;
}

export const CLUSTER_DOMAIN = 'cluster.local';
const SERVICE_SUBNET = '10.96.0';
/** The first ones are kept for the name server and the like. */
const FIRST_SERVICE_ADDRESS = 10;

export interface ServiceState {
  /** Name → addresses, as the name server is to answer. */
  readonly names: Readonly<Record<string, readonly string[]>>;
  /** Rules of the kube-proxy: nftables, for the namespace of a host that uses services. */
  readonly proxyRules: string;
}

/** Names and addresses of services with the endpoints that they have now. */
export function serviceState(objects: readonly KubeObject[], endpoints: readonly Endpoint[]): ServiceState {
  const services = objects.filter(isService);
  const names: Record<string, readonly string[]> = {};
  const rules: { readonly nat: string; readonly reject: string }[] = [];
  services.forEach((service, index) => {
    const { name, namespace = 'default' } = service.metadata;
    const domain = `${name}.${namespace}.svc.${CLUSTER_DOMAIN}`;
    const published = endpoints.filter((each) => isPublished(service, each));
    if (service.spec.clusterIP === 'None') {
      names[domain] = published.map(({ address }) => address);
      for (const each of published) if (each.subdomain === name) names[`${each.name}.${domain}`] = [each.address];
    } else {
      const address = `${SERVICE_SUBNET}.${FIRST_SERVICE_ADDRESS + index}`;
      names[domain] = [address];
      for (const { port } of service.spec.ports) rules.push(proxyRule(address, port, published));
    }
  });
  return { names, proxyRules: table(rules) };
}

function isPublished(service: Service, endpoint: Endpoint): boolean {
  return selects(service.spec.selector, endpoint.labels) && (endpoint.isReady || service.spec.publishNotReadyAddresses === true);
}

/** As the kube-proxy does it: each new connection to one endpoint by chance; refused when there is none. Connections that are there stay. */
function proxyRule(address: string, port: number, endpoints: readonly Endpoint[]): { nat: string; reject: string } {
  const match = `ip daddr ${address} tcp dport ${port}`;
  if (endpoints.length === 0) return { nat: '', reject: `${match} reject with tcp reset` };
  const map = endpoints.map((each, index) => `${index} : ${each.address}`).join(', ');
  return { nat: `${match} dnat to numgen random mod ${endpoints.length} map { ${map} }`, reject: '' };
}

/** Replaces the table in one transaction. */
function table(rules: readonly { readonly nat: string; readonly reject: string }[]): string {
  const lines = (of: 'nat' | 'reject'): string => rules.map((rule) => rule[of]).join('\n');
  return [
    'table ip services {}',
    'delete table ip services',
    'table ip services {',
    `chain nat {\ntype nat hook output priority -100; policy accept;\n${lines('nat')}\n}`,
    `chain filter {\ntype filter hook output priority 0; policy accept;\n${lines('reject')}\n}`,
    '}',
    '',
  ].join('\n');
}
