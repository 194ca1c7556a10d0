"""Makes the golden files of templates with drain3, the reference implementation of Drain in Python.

    python3 -m venv venv && venv/bin/pip install drain3==0.9.11 && venv/bin/python make.py

lines.tsv: lines as real programs write them, the statement each comes from, and the group that drain3 puts it into.
The statements are those of nginx's error log, PostgreSQL, Redis, sshd, cron, systemd and the kernel, written down from
what these programs print; the values are drawn under a fixed seed. drain3 gets what its users give it: the message without
the header, which a regular expression for each program takes off, masked by the expressions below, with its default
parameters. Neither the header's expressions nor the masks share anything with the Rust code under test.

Columns: program, number of the statement, number of drain3's group, the line as a program would write it.

core.tsv: lines of few words, made to be confused, without masks, under several parameters: here the algorithm itself
must agree, line by line. Columns: depth, similarity, children, number of the group, its template after the line, the line.
"""

import random
import re
from pathlib import Path

from drain3 import TemplateMiner
from drain3.drain import Drain
from drain3.masking import MaskingInstruction
from drain3.template_miner_config import TemplateMinerConfig

R = random.Random(20171)
B, E = r"(?<![A-Za-z0-9_])", r"(?![A-Za-z0-9_])"
H = "[0-9a-fA-F]"
MASKS = [
    (rf"{B}{H}{{8}}-{H}{{4}}-{H}{{4}}-{H}{{4}}-{H}{{12}}{E}", "UUID"),
    (rf"{B}\d{{1,3}}(\.\d{{1,3}}){{3}}(:\d{{1,5}})?{E}", "IP"),
    (rf"{B}(({H}{{1,4}}:){{7}}{H}{{1,4}}|({H}{{1,4}}(:{H}{{1,4}})*)?::({H}{{1,4}}(:{H}{{1,4}})*)?){E}", "IP"),
    (rf"{B}0x{H}+{E}", "HEX"),
    (rf"{B}(?=[0-9a-fA-F]*[0-9])(?=[0-9a-fA-F]*[a-fA-F]){H}{{8,}}{E}", "HEX"),
    (r"(?<![A-Za-z0-9_<])/[A-Za-z0-9/._~%+@=&?*$!:#-]*", "PATH"),
    (rf"{B}[-+]?\d+([.,:/-]\d+)*(%|[A-Za-z]{{0,3}}{E})", "NUM"),
]
HEADERS = {
    "nginx": r"^\S+ \S+ \[\w+\] \d+#\d+: (\*\d+ )?",
    "postgres": r"^\S+ \S+ UTC \[\d+\] (\S+@\S+ \w+: |\w+: +)",
    "redis": r"^\d+:[A-Z] \d+ \w+ \d+ \S+ [.*#-] ",
    "syslog": r"^\w{3} +\d+ \S+ \S+ ",
}


def clock():
    clock.s += R.random() * 3
    s = int(clock.s)
    return f"{s // 3600 % 24:02}:{s // 60 % 60:02}:{s % 60:02}"


clock.s = 80000.0


def pick(*xs):
    return R.choice(xs)


def ip():
    return f"10.{R.randint(0, 3)}.{R.randint(0, 255)}.{R.randint(1, 254)}"


def n(a=1, b=99999):
    return R.randint(a, b)


def path():
    return "/" + "/".join(pick("cart", "api", "v1", "item", "img", "a.png", "user", "x.css") for _ in range(n(1, 3)))


def hx(k):
    return "".join(R.choice("0123456789abcdef") for _ in range(k - 1)) + "7"


def user():
    return pick("alice", "bob", "carol", "dave", "erin", "mallory", "oscar", "peggy")


def request():
    return (
        f'client: {ip()}, server: {pick("shop", "_", "www")}, request: "{pick("GET", "POST")} {path()}?id={n()} HTTP/1.1", '
        f'upstream: "http://{ip()}:8080{path()}", host: "shop.test"'
    )


def plain():
    return f'client: {ip()}, server: _, request: "GET {path()} HTTP/1.1", host: "shop.test"'


NGINX = [
    ("error", lambda: f"*{n()} connect() failed (111: Connection refused) while connecting to upstream, {request()}"),
    ("error", lambda: f"*{n()} upstream timed out (110: Connection timed out) while reading response header from upstream, {request()}"),
    ("error", lambda: f"*{n()} upstream prematurely closed connection while reading response header from upstream, {request()}"),
    ("error", lambda: f"*{n()} recv() failed (104: Connection reset by peer) while reading response header from upstream, {request()}"),
    ("error", lambda: f'*{n()} open() "/var/www{path()}" failed (2: No such file or directory), {plain()}'),
    ("error", lambda: f"*{n()} no live upstreams while connecting to upstream, {request()}"),
    ("warn", lambda: f"*{n()} an upstream response is buffered to a temporary file /var/cache/nginx/proxy/{n(0,9)}/{n(10,99)}/{n():010} while reading upstream, {request()}"),
    ("warn", lambda: f"*{n()} a client request body is buffered to a temporary file /var/lib/nginx/body/{n():010}, {plain()}"),
    ("crit", lambda: f"*{n()} SSL_do_handshake() failed (SSL: error:1417D18C:SSL routines:tls_process_client_hello:version too low) while SSL handshaking, client: {ip()}, server: 0.0.0.0:443"),
    ("error", lambda: f"*{n()} limiting requests, excess: {n(1,40)}.{n(0,999):03} by zone \"perip\", {plain()}"),
    ("alert", lambda: f"{n(100,900)} worker_connections are not enough"),
    ("notice", lambda: f"signal {n(1,17)} (SIGCHLD) received from {n()}"),
    ("notice", lambda: f"worker process {n()} exited with code {n(0,9)}"),
    ("notice", lambda: f"start worker process {n()}"),
    ("info", lambda: f"*{n()} client {ip()} closed keepalive connection"),
    ("crit", lambda: f"*{n()} accept4() failed (24: Too many open files)"),
]
TABLES = ("users", "orders", "carts", "items", "prices")
POSTGRES = [
    ("LOG", lambda: f"checkpoint starting: {pick('time', 'wal')}"),
    ("LOG", lambda: f"checkpoint complete: wrote {n()} buffers ({n(0,99)}.{n(0,9)}%); 0 WAL file(s) added, {n(0,9)} removed, {n(0,9)} recycled; write={n(0,99)}.{n(0,999):03} s, sync={n(0,9)}.{n(0,999):03} s, total={n(0,99)}.{n(0,999):03} s"),
    ("LOG", lambda: f"connection received: host={ip()} port={n(1024,65535)}"),
    ("LOG", lambda: f"connection authorized: user={user()} database={pick('shop','bank')} application_name=psql"),
    ("LOG", lambda: f"disconnection: session time: {n(0,9)}:{n(0,59):02}:{n(0,59):02}.{n(0,999):03} user={user()} database={pick('shop','bank')} host={ip()} port={n(1024,65535)}"),
    ("LOG", lambda: f"duration: {n()}.{n(0,999):03} ms  statement: SELECT * FROM {pick(*TABLES)} WHERE id = {n()}"),
    ("ERROR", lambda: f'relation "{pick(*TABLES)}_old" does not exist at character {n(1,90)}'),
    ("ERROR", lambda: f'duplicate key value violates unique constraint "{pick(*TABLES)}_pkey"'),
    ("ERROR", lambda: "deadlock detected"),
    ("ERROR", lambda: "canceling statement due to statement timeout"),
    ("FATAL", lambda: "sorry, too many clients already"),
    ("FATAL", lambda: "remaining connection slots are reserved for non-replication superuser connections"),
    ("FATAL", lambda: f'password authentication failed for user "{user()}"'),
    ("LOG", lambda: f'automatic vacuum of table "shop.public.{pick(*TABLES)}": index scans: {n(0,9)}'),
    ("LOG", lambda: f"process {n()} still waiting for ShareLock on transaction {n()} after {n()}.{n(0,999):03} ms"),
    ("LOG", lambda: f"temporary file: path \"base/pgsql_tmp/pgsql_tmp{n()}.{n(0,9)}\", size {n()}"),
    ("PANIC", lambda: f'could not write to file "pg_wal/xlogtemp.{n()}": No space left on device'),
    ("LOG", lambda: f"server process (PID {n()}) was terminated by signal {n(1,15)}: Killed"),
]
REDIS = [
    ("*", lambda: f"{n(1,9)} changes in {n(60,900)} seconds. Saving..."),
    ("*", lambda: f"Background saving started by pid {n()}"),
    ("*", lambda: "Background saving terminated with success"),
    ("*", lambda: "DB saved on disk"),
    ("*", lambda: f"Fork CoW for RDB: current {n(0,90)} MB, peak {n(0,90)} MB, average {n(0,90)} MB"),
    ("#", lambda: f"Can't save in background: fork: Cannot allocate memory"),
    ("#", lambda: f"Client id={n()} addr={ip()}:{n(1024,65535)} laddr={ip()}:6379 fd={n(8,900)} name= age={n(0,90)} idle={n(0,9)} flags=S db=0 scheduled to be closed ASAP for overcoming of output buffer limits."),
    ("#", lambda: f"Connection with replica {ip()}:{n(1024,65535)} lost."),
    ("*", lambda: f"Replica {ip()}:{n(1024,65535)} asks for synchronization"),
    ("*", lambda: f"Full resync requested by replica {ip()}:{n(1024,65535)}"),
    ("#", lambda: "MASTER timeout: no data nor PING received..."),
    ("*", lambda: f"Starting automatic rewriting of AOF on {n(100,300)}% growth"),
    ("#", lambda: f"Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer without waiting for fsync to complete, this may slow down Redis."),
    ("-", lambda: f"DB {n(0,15)}: {n()} keys ({n()} volatile) in {n()} slots HT."),
]
SYSLOG = [
    lambda: f"sshd[{n()}]: Accepted publickey for {user()} from {ip()} port {n(1024,65535)} ssh2: RSA SHA256:{hx(20)}",
    lambda: f"sshd[{n()}]: Failed password for invalid user {user()} from {ip()} port {n(1024,65535)} ssh2",
    lambda: f"sshd[{n()}]: Received disconnect from {ip()} port {n(1024,65535)}:11: disconnected by user",
    lambda: f"sshd[{n()}]: pam_unix(sshd:session): session opened for user {user()}(uid={n(1000,1100)}) by (uid=0)",
    lambda: f"CRON[{n()}]: ({user()}) CMD (test -x /usr/sbin/anacron)",
    lambda: f"systemd[1]: {pick('nginx','redis','shop','cron')}.service: Main process exited, code=killed, status=9/KILL",
    lambda: f"systemd[1]: {pick('nginx','redis','shop','cron')}.service: Scheduled restart job, restart counter is at {n(1,30)}.",
    lambda: f"systemd[1]: Started Session {n()} of user {user()}.",
    lambda: f"kernel: [{n()}.{n(0,999999):06}] Out of memory: Killed process {n()} ({pick('java','shop','redis-server')}) total-vm:{n()}kB, anon-rss:{n()}kB, file-rss:{n()}kB, shmem-rss:0kB, UID:{n(0,1100)} pgtables:{n()}kB oom_score_adj:0",
    lambda: f"kernel: [{n()}.{n(0,999999):06}] TCP: request_sock_TCP: Possible SYN flooding on port {n(80,9000)}. Sending cookies.",
    lambda: f"kernel: [{n()}.{n(0,999999):06}] EXT4-fs error (device sda{n(1,4)}): ext4_find_entry:1455: inode #{n()}: comm nginx: reading directory lblock 0",
    lambda: f"kernel: [{n()}.{n(0,999999):06}] nf_conntrack: nf_conntrack: table full, dropping packet",
]
MONTH = "Nov"


def line(program, statement):
    t = clock()
    if program == "nginx":
        level, text = NGINX[statement]
        return f"2026/11/21 {t} [{level}] {n(100,999)}#{n(100,999)}: {text()}"
    if program == "postgres":
        level, text = POSTGRES[statement]
        return f"2026-11-21 {t}.{n(0,999):03} UTC [{n()}] {level}:  {text()}"
    if program == "redis":
        mark, text = REDIS[statement]
        return f"{n()}:M 21 {MONTH} 2026 {t}.{n(0,999):03} {mark} {text()}"
    return f"{MONTH} 21 {t} web-1 {SYSLOG[statement]()}"


def write_lines(out):
    for program, statements in (("nginx", NGINX), ("postgres", POSTGRES), ("redis", REDIS), ("syslog", SYSLOG)):
        config = TemplateMinerConfig()
        config.masking_instructions = [MaskingInstruction(p, m) for p, m in MASKS]
        miner = TemplateMiner(config=config)
        # Some statements are common, some rare, as in life; each comes at least twice.
        chosen = list(range(len(statements))) * 2
        chosen += R.choices(range(len(statements)), weights=[1 / (i + 1) for i in range(len(statements))], k=110)
        R.shuffle(chosen)
        for statement in chosen:
            text = line(program, statement)
            message = re.sub(HEADERS[program], "", text, count=1)
            group = miner.add_log_message(message)["cluster_id"]
            out.write(f"{program}\t{statement}\t{group}\t{text}\n")


def write_core(out):
    words = ["get", "put", "user", "of", "to", "w1", "w2", "<*>", "x9y", "end", "9"]
    for depth, similarity, children in ((4, 0.4, 100), (4, 0.6, 4), (5, 0.5, 3), (3, 0.4, 100), (6, 0.3, 2)):
        drain = Drain(depth=depth, sim_th=similarity, max_children=children)
        for _ in range(160):
            text = " ".join(R.choices(words, k=R.choice((0, 1, 2, 3, 4, 4, 5, 6))))
            cluster, _ = drain.add_log_message(text)
            out.write(f"{depth}\t{similarity}\t{children}\t{cluster.cluster_id}\t{cluster.get_template()}\t{text}\n")


here = Path(__file__).parent
with open(here / "lines.tsv", "w") as out:
    write_lines(out)
with open(here / "core.tsv", "w") as out:
    write_core(out)
