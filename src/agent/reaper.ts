// Ends runtimes whose agent died without doing so (SIGKILL, out of memory). In: process group ids. A shell in a session of its
// own reads `+id` and `-id` from a pipe; the kernel closes the pipe when the agent is gone, and the shell then ends the groups
// still listed. (`kill -KILL -- -id` is refused by dash; `-s KILL` is what POSIX has.) A shell and not Node: it waits for weeks beside a thin agent.
import { spawn } from "node:child_process";

const REAPER_SCRIPT = `
groups=" "
while read -r line; do
  id=\${line#?}
  case $line in
    +*) groups="$groups$id " ;;
    -*) case $groups in *" $id "*) groups="\${groups%% $id *} \${groups#* $id }" ;; esac ;;
  esac
done
for id in $groups; do kill -s KILL -- "-$id" 2>/dev/null; done
exit 0
`;

export interface Reaper {
  watch(groupId: number): void;
  forget(groupId: number): void;
  /** Ends the watcher; groups still listed end with it. */
  stop(): void;
}

export function startReaper(): Reaper {
  const shell = spawn("/bin/sh", ["-c", REAPER_SCRIPT], { detached: true, stdio: ["pipe", "ignore", "ignore"] });
  // Losing the watcher costs the safety net, not the work: the agent still ends its runtimes itself.
  shell.on("error", () => {});
  shell.stdin.on("error", () => {});
  shell.unref();
  const tell = (line: string) => shell.stdin.write(`${line}\n`);
  return {
    watch: (groupId) => tell(`+${groupId}`),
    forget: (groupId) => tell(`-${groupId}`),
    stop: () => shell.stdin.end(),
  };
}
