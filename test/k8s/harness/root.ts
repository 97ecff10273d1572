/** How a container sees its files: the image on top of this machine's system directories, all read-only, and the volumes. */

export interface Bind {
  readonly source: string;
  readonly target: string;
}

export interface RootSpec {
  /** An empty directory to build on; what is mounted there goes with the process. */
  readonly at: string;
  /** Read-only directories of the image, each in its place. */
  readonly image: readonly Bind[];
  readonly volumes: readonly Bind[];
  readonly readOnly: boolean;
  /** Null: as root, with all capabilities (an image's build). */
  readonly user: {
    readonly uid: number;
    readonly gid: number;
    readonly groups: readonly number[];
    readonly dropCapabilities: boolean;
  } | null;
  readonly workDir: string;
}

const quoted = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** A shell script that builds the root and becomes the command in it. Needs root, and a mount namespace of its own. */
export function rootScript(spec: RootSpec, command: readonly string[]): string {
  const at = quoted(spec.at);
  const bind = ({ source, target }: Bind, readOnly: boolean): string[] => [
    `mkdir -p ${at}${quoted(target)}`,
    `mount --bind ${quoted(source)} ${at}${quoted(target)}`,
    ...(readOnly ? [`mount -o remount,bind,ro ${at}${quoted(target)}`] : []),
  ];
  return [
    'set -e',
    `mount -t tmpfs -o mode=755,size=64m root ${at}`,
    `mkdir -p ${['usr', 'etc', 'proc', 'dev', 'tmp', 'root'].map((name) => `${at}/${name}`).join(' ')}`,
    `for name in bin sbin lib lib64; do ln -s usr/$name ${at}/$name; done`,
    ...['usr', 'etc'].flatMap((name) => [`mount --rbind /${name} ${at}/${name}`, `mount -o remount,bind,ro ${at}/${name}`]),
    ...['proc', 'dev'].map((name) => `mount --rbind /${name} ${at}/${name}`),
    ...spec.image.flatMap((each) => bind(each, true)),
    ...spec.volumes.flatMap((each) => bind(each, false)),
    ...(spec.readOnly ? [`mount -o remount,ro ${at}`] : []),
    `cd ${at}`,
    `exec chroot . ${[...asUser(spec.user), 'sh', '-c', `cd ${quoted(spec.workDir)} && exec "$@"`, 'sh', ...command].map(quoted).join(' ')}`,
  ].join('\n');
}

/** @returns words to put before a command */
export function asUser(user: RootSpec['user']): string[] {
  if (user === null) return [];
  const groups = user.groups.length === 0 ? ['--clear-groups'] : ['--groups', user.groups.join(',')];
  const capabilities = user.dropCapabilities ? ['--inh-caps=-all', '--bounding-set=-all'] : [];
  return ['/usr/bin/setpriv', `--reuid=${user.uid}`, `--regid=${user.gid}`, ...groups, ...capabilities, '--no-new-privs', '--'];
}
