"""Makes a script of the commands of a page, as a reader types them.

    script.py PAGE

The comments before the blocks are those that tests/docs/commands.rs explains. Blocks that are `not run` there
are run here, because this is a machine of its own.
"""

import shlex
import sys

PRELUDE = r"""
set -euo pipefail
state=$(mktemp -d)
pids=()
outputs=()
die() { echo "FAILED: $1"; tail -n 40 "$2"; exit 1; }
expect() { grep -qF -- "$1" "$2" || die "line $3: no '$1'" "$2"; }
"""

def blocks(text):
    """The line, the kind, the expected text and the commands of each block."""
    lines = iter(enumerate(text.splitlines(), 1))
    before = ""
    for number, line in lines:
        if not line.startswith("```"):
            before = line.strip()
            continue
        language = line[3:]
        body = []
        for _, line in lines:
            if line == "```":
                break
            body.append(line)
        kind, expected = "run", ""
        if before.startswith("<!-- "):
            kind, _, expected = before[len("<!-- ") : -len(" -->")].partition(": ")
        before = ""
        if language == "sh" or kind == "Ctrl-C":
            yield number, kind, expected, "\n".join(body)


def main():
    print(PRELUDE)
    for number, kind, expected, text in blocks(open(sys.argv[1]).read()):
        quoted = shlex.quote(expected)
        output = f'"$state/{number}"'
        if kind == "stays":
            # The shell is replaced, so that the signal reaches the program.
            print(f'( exec {text} ) > {output} 2>&1 < /dev/null &')
            print(f'pids+=($!) outputs+=({output})')
            print(f'until grep -qF -- {quoted} {output}; do')
            print(f'    kill -0 ${{pids[-1]}} || die "line {number}: it ended" {output}')
            print("    sleep 0.2\ndone")
        elif kind == "Ctrl-C":
            print('kill -INT ${pids[-1]}; wait ${pids[-1]} || true')
            print(f'expect {quoted} "${{outputs[-1]}}" {number}')
            print("unset 'pids[-1]' 'outputs[-1]'")
        else:
            # In the shell itself: it changes directories and sets variables, as a reader's does.
            print(f"code=0\nset +e\n{{\n{text}\n}} > {output} 2>&1 < /dev/null\ncode=$?\nset -e")
            wanted = "!=" if kind == "fails" else "=="
            print(f'(( code {wanted} 0 )) || die "line {number}: exit code $code" {output}')
            if kind in ("prints", "fails"):
                print(f"expect {quoted} {output} {number}")
        print(f"echo 'ok: line {number}'")


main()
