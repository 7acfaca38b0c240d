"""The catalogue that the tests of the commands use."""

from __future__ import annotations

CATALOGUE = """
tasks:
  greet:
    input: {name: {source: parameter}}
    exec_command: sh
    exec_args: [-c, 'mkdir -p out && echo "Hello, $1!" | tee out/hello.txt', sh, "{name}"]
  fail:
    exec_command: sh
    exec_args: [-c, 'echo "the disk is on fire" >&2; exit 7']
  list:
    exec_command: sh
    exec_args: [-c, 'echo "[{\\"n\\": 1}, {\\"n\\": 2}, {\\"n\\": 3}]" > spawn.json']
  list_fifty:
    exec_command: sh
    exec_args: [-c, 'seq -s, 0 49 | sed "s/[0-9][0-9]*/{\\"n\\": &}/g; s/.*/[&]/" > spawn.json']
  list_wrong:
    exec_command: sh
    exec_args: [-c, 'echo "[{\\"n\\": 1}, {\\"n\\": \\"many\\"}]" > spawn.json']
  long_work:
    input: {n: {source: parameter, type: integer}}
    exec_command: sh
    exec_args: [-c, 'echo "attempt $ECHELON_ATTEMPT of $1"; test "$1" != 17 || test "$ECHELON_ATTEMPT" != 1', sh, "{n}"]
  odd:
    input: {n: {source: parameter, type: integer}}
    exec_command: sh
    exec_args: [-c, 'echo "this is $1"; test $(($1 % 2)) = 1', sh, "{n}"]
  weigh:
    input: {n: {source: parameter, type: integer}}
    exec_command: sh
    exec_args: [-c, 'sleep 0.$((4 - $1))1; echo "weight of $1" > "$ECHELON_OUTPUT"', sh, "{n}"]
  sum:
    exec_command: sh
    exec_args: [-c, 'echo "all weigh 6" > "$ECHELON_OUTPUT"']
  hold:
    exec_command: sleep
    exec_args: [100000]
  stubborn:
    exec_command: sh
    exec_args: [-c, 'trap "" TERM; echo ready > ready; while :; do sleep 1; done']
    grace: 30s
  pass: {exec_command: "true"}
  leave_many:
    exec_command: sh
    exec_args: [-c, 'mkdir plots; for n in $(seq 60); do echo $n > plots/$n.png; done; echo all > report.txt']
  leave_odd:
    exec_command: sh
    exec_args: [-c, 'echo good > good.txt; ln -s good.txt link; mkfifo pipe']
  add:
    input:
      n: {source: parameter, type: integer}
      on: {source: parameter, type: boolean, default: false}
    exec_command: echo
    exec_args: ["n={n} on={on}"]
  fetch:
    input: {token: {source: parameter, secret: true}}
    env: {TOKEN: "{token}"}
    exec_command: sh
    exec_args: [-c, 'test "$TOKEN" = "Bearer right"']
  list_two_of_the_samples: {exec_command: sh, exec_args: [-c, 'echo "[{}, {}]" > spawn.json']}
  fail_for_a_long_reason:
    input: {message: {source: parameter}}
    exec_command: sh
    exec_args: [-c, 'echo "$1" >&2; exit 3', sh, "{message}"]
jobs:
  a_job_whose_name_says_all_that_it_does_with_samples:
    input: {message: {source: parameter}}
    stages:
      - name: List and look at all of the samples
        spawn_task: list_two_of_the_samples
        task_class: fail_for_a_long_reason
      - {name: Never, task_class: pass}
  hello:
    description: Greets somebody
    input: {name: {source: parameter, default: world}}
    stages: [{name: Greet, task_class: greet}]
  fail: {stages: [{name: Fail, task_class: fail}]}
  many_files: {stages: [{name: Leave, task_class: leave_many}]}
  odd_files: {stages: [{name: Leave, task_class: leave_odd}]}
  fan:
    stages: [{name: Fan, spawn_task: list, task_class: odd, job_failed_on_error: false}]
  chained:
    stages:
      - {name: Fan, spawn_task: list, task_class: odd, job_failed_on_error: false}
      - {name: Sort, spawn_task: list, task_class: odd, max_failed: 1}
      - {name: Last, task_class: pass}
  weights:
    stages: [{name: Weigh, spawn_task: list, task_class: weigh}, {name: Sum, task_class: sum}]
  crash: {stages: [{name: Fail, task_class: fail}, {name: Never, task_class: pass}]}
  misfit:
    stages:
      - {name: Sort, spawn_task: list_wrong, task_class: long_work, on_error: block}
  fifty:
    stages:
      - {name: Work, spawn_task: list_fifty, task_class: long_work, on_error: block}
      - {name: Last, task_class: pass}
  hold: {stages: [{name: Hold, task_class: hold}, {name: Never, task_class: fail}]}
  blocked:
    stages:
      - {name: Sort, spawn_task: list, task_class: odd, on_error: block}
      - {name: Extra, task_class: odd, tasks: open}
      - {name: Last, task_class: pass}
  gated:
    stages:
      - {name: Left, task_class: pass, order: 1}
      - {name: Right, task_class: pass, order: 1, paused: true}
      - {name: Last, task_class: pass, order: 2}
  stubborn: {stages: [{name: Resist, task_class: stubborn}]}
  add:
    input: {n: {source: parameter}, on: {source: parameter, type: boolean, default: false}}
    stages: [{name: Add, task_class: add}]
  fetch:
    input: {token: {source: http-header, key: Authorization}}
    stages: [{name: Fetch, task_class: fetch}]
"""
