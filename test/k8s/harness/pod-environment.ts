import { type ConfigMap, type Container, type EnvVar, isConfigMap, isSecret, type KubeObject, type Secret } from '../objects.ts';
import { IMAGE_PATH } from './image.ts';

/** What fields a pod may ask for of itself. */
export type PodFields = Readonly<Record<string, string>>;

/** Something that the container refers to is not there (yet): Kubernetes' CreateContainerConfigError. */
export class MissingReference extends Error {
  override name = 'MissingReference';
}

/** A container's environment, by Kubernetes' rules: envFrom first, env over it. @throws MissingReference */
export function environmentOf(container: Container, objects: readonly KubeObject[], fields: PodFields): Record<string, string> {
  const env: Record<string, string> = { PATH: IMAGE_PATH, HOME: '/', HOSTNAME: fields['metadata.name'] as string };
  for (const { configMapRef } of container.envFrom ?? []) Object.assign(env, configMap(objects, configMapRef.name).data);
  for (const variable of container.env ?? []) env[variable.name] = variableOf(variable, objects, fields);
  return env;
}

function variableOf({ name, value, valueFrom }: EnvVar, objects: readonly KubeObject[], fields: PodFields): string {
  if (value !== undefined) return value;
  if (valueFrom?.fieldRef !== undefined) return found(fields[valueFrom.fieldRef.fieldPath], `field ${valueFrom.fieldRef.fieldPath}`);
  if (valueFrom?.secretKeyRef !== undefined) {
    const { name: secretName, key } = valueFrom.secretKeyRef;
    return Buffer.from(found(secret(objects, secretName).data?.[key], `secret ${secretName}, key ${key}`), 'base64').toString();
  }
  if (valueFrom?.configMapKeyRef !== undefined) {
    const { name: mapName, key } = valueFrom.configMapKeyRef;
    return found(configMap(objects, mapName).data?.[key], `configmap ${mapName}, key ${key}`);
  }
  throw new Error(`variable ${name}: a source that is not known here`);
}

function configMap(objects: readonly KubeObject[], name: string): ConfigMap {
  return found(
    objects.filter(isConfigMap).find(({ metadata }) => metadata.name === name),
    `configmap ${name}`,
  );
}

function secret(objects: readonly KubeObject[], name: string): Secret {
  return found(
    objects.filter(isSecret).find(({ metadata }) => metadata.name === name),
    `secret ${name}`,
  );
}

function found<T>(value: T | undefined, what: string): T {
  if (value === undefined) throw new MissingReference(`${what} not found`);
  return value;
}
