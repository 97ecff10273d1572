import { beforeAll, describe, expect, test } from 'vitest';
import { render, schemaProblems } from '../tools.ts';

/** The oldest and the newest release that the manifests are meant for. */
const KUBERNETES = ['1.32', '1.37'];

describe('Kubernetes would take the manifests', () => {
  // Installs the tools where they are not yet.
  beforeAll(() => render('k8s/base'), 600_000);

  for (const kustomization of ['k8s/base', 'k8s/overlays/dev', 'k8s/overlays/prod']) {
    test.each(KUBERNETES)(`F41 ${kustomization} by the schemas of %s`, async (version) => {
      expect(await schemaProblems(await render(kustomization), version)).toBe('');
    });
  }

  test.each([
    ['a field that does not exist', 'minReadySeconds: 5', 'minReadySecond: 5'],
    ['a value of another type', 'periodSeconds: 10', 'periodSeconds: ten'],
    ['a list where a number is', 'maxUnavailable: 1', 'maxUnavailable: [1]'],
  ])('F41 the check can fail: %s', async (_, right, wrong) => {
    const rendered = await render('k8s/base');
    expect(rendered).toContain(right);
    expect(await schemaProblems(rendered.replace(right, wrong), KUBERNETES[0] as string)).not.toBe('');
  });
});
