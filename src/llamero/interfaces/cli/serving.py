"""What `llamero serve` does: settings from its options, one server or several, and what is told at the start."""

from __future__ import annotations

import argparse
import asyncio
import ipaddress
import logging
import multiprocessing
import os
import socket
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from multiprocessing.process import BaseProcess
from pathlib import Path

import llamero
from llamero.engine.schedule import Limits
from llamero.errors import LlameroError, SettingError
from llamero.interfaces.cli.keys import key_file
from llamero.interfaces.cli.progress import progress
from llamero.interfaces.cli.terminal import note
from llamero.interfaces.devices import cores, memory
from llamero.interfaces.server.catalogue import Catalogue, parse_models
from llamero.interfaces.server.door import bounds
from llamero.interfaces.server.door.guard import Rules
from llamero.interfaces.server.door.keys import Keys
from llamero.interfaces.server.door.logs import LOGGER, configure_logs
from llamero.interfaces.server.library import Housekeeping, Library
from llamero.interfaces.server.opening import Opener
from llamero.interfaces.server.page import page_files
from llamero.interfaces.server.process import Place, Plan, serve_on
from llamero.interfaces.server.replicas import Replicas
from llamero.interfaces.server.serving import Serving, listen, listen_at

_SHARE = 0.9  # of all memory, for models


def serve(args: argparse.Namespace, environ: Mapping[str, str]) -> int:
    """Answer until told to stop."""
    for name, least in (("room", 2), ("replicas", 1), ("parallel", 1), ("queue", 1)):
        if (given := getattr(args, name)) is not None and given < least:
            raise SettingError(f"--{name.replace('_', '-')} must be at least {least}, got {given}")
    configure_logs(args.log_format, args.log_level)
    plan = make_plan(args, environ)
    with _socket(args) as sock:
        try:
            if args.replicas > 1:
                return _serve_many(args, plan, sock)
            with progress("loading", "bytes") as bar:
                asyncio.run(serve_on(sock, plan, lambda library: _report(args, plan, sock, library), bar))
        finally:
            if args.unix_socket:
                args.unix_socket.unlink(missing_ok=True)
    return 0


def make_plan(args: argparse.Namespace, environ: Mapping[str, str]) -> Plan:
    """All settings, checked. Raises SettingError and ModelNotFound."""
    named = args.model or ([] if args.models else [None])
    opener = Opener(
        context=args.context,
        room=args.room,
        threads=args.threads,
        device=args.device,
        deterministic=args.deterministic,
        cache=args.cache,
        chat_template=args.chat_template,
        draft=args.draft,
        speculate=args.speculate,
    )
    if args.replicas > 1 and args.threads is None and args.device == "cpu":
        opener = replace(opener, threads=max(1, cores() // args.replicas))
    entries = parse_models(named, args.lora)
    return Plan(
        catalogue=Catalogue(entries, [folder.expanduser() for folder in args.models]),
        opener=opener,
        # What cannot be opened is found now, not when somebody asks; in a folder, it may come yet.
        sizes={entry.name: opener.size(entry) for entry in entries},
        housekeeping=Housekeeping(
            memory=(args.memory if args.memory is not None else int(_SHARE * memory())) // args.replicas,
            keep_alive=args.keep_alive,
        ),
        limits=Limits(working=args.parallel, waiting=args.queue, shared=args.share_prefixes),
        serving=_serving(args, environ),
    )


def _serving(args: argparse.Namespace, environ: Mapping[str, str]) -> Serving:
    keys = _keys(args, environ)
    if keys is None and not args.no_auth and not args.unix_socket and not _is_loopback(args.host):
        raise SettingError(
            f"--host {args.host} lets other machines ask, and there are no keys: make one with `llamero keys create "
            "NAME`, or say --no-auth if whoever reaches this port may use it"
        )
    hosts = set(args.allow_host) | (set() if _is_address(args.host) else {args.host})
    return Serving(
        rules=Rules(
            hosts=frozenset(host.lower() for host in hosts),
            origins=frozenset(args.allow_origin),
            page=frozenset(page_files()),
        ),
        limits=bounds.Limits(
            body=args.max_body,
            body_seconds=args.body_timeout,
            seconds=args.request_timeout,
        ),
        send_seconds=args.send_timeout,
        keys=keys,
        drain=args.drain_timeout,
        connections=args.max_connections,
        log_prompts=args.log_prompts,
        certificate=args.ssl_certfile,
        private_key=args.ssl_keyfile,
    )


def _keys(args: argparse.Namespace, environ: Mapping[str, str]) -> Keys | None:
    """Keys of the command line, the environment and the file; None where there are none, or none are wanted."""
    # Names that no key of a file can have: what one key read is not found by another.
    given = {"--api-key" if n == 0 else f"--api-key-{n + 1}": key for n, key in enumerate(args.api_key)}
    if environ.get("LLAMERO_API_KEY"):
        given["$LLAMERO_API_KEY"] = environ["LLAMERO_API_KEY"]
    if args.no_auth:
        if given or args.keys:
            raise SettingError(
                "--no-auth and keys (LLAMERO_API_KEY is one) contradict each other; leave one of them out"
            )
        return None
    keys = Keys(given, key_file(args.keys))
    if args.keys and not len(keys):
        raise SettingError(f"there are no keys in {args.keys}; make one: llamero keys create NAME --keys {args.keys}")
    return keys if len(keys) else None


def _socket(args: argparse.Namespace) -> socket.socket:
    return listen_at(args.unix_socket) if args.unix_socket else listen(args.host, args.port, args.send_timeout)


def _serve_many(args: argparse.Namespace, plan: Plan, sock: socket.socket) -> int:
    spawn = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="llamero-") as folder:

        def start(index: int, line: socket.socket) -> BaseProcess:
            place = Place(index, line, Path(folder))
            process = spawn.Process(target=_replica, args=(args, sock, place), name=f"llamero-{index}")
            process.start()
            return process

        return Replicas(start, args.replicas, args.drain_timeout).run(lambda: _report(args, plan, sock, None))


def _replica(args: argparse.Namespace, sock: socket.socket, place: Place) -> None:
    """A replica's whole life. Exit code 1: it could not start."""
    os.setsid()  # Ctrl-C is for the parent, who tells us
    configure_logs(args.log_format, args.log_level)
    try:
        asyncio.run(serve_on(sock, make_plan(args, os.environ), lambda _: None, place=place))
    except LlameroError as error:
        print(f"llamero serve: {error}", file=sys.stderr)
        sys.exit(1)


def _report(args: argparse.Namespace, plan: Plan, sock: socket.socket, library: Library | None) -> None:
    """What is served, where, and for whom."""
    serving, place = plan.serving, _address(args, sock, plan.serving)
    said = {
        "version": llamero.__version__,
        "address": place,
        "models": plan.catalogue.names(),
        "loaded": library.loaded() if library else [],
        "memory": plan.housekeeping.memory,
        "counted": sum(library.memory().values()) if library else None,
        "keys": list(serving.keys.names()) if serving.keys else [],
        "replicas": args.replicas,
    }
    if args.log_format == "json":
        logging.getLogger(LOGGER).info("listening", extra=said)
        return
    budget = f"of {_gib(plan.housekeeping.memory)} for models"
    counted = f"{_gib(said['counted'])} {budget}" if library and library.memory() else f"none used yet {budget}"
    note(f"[llamero {llamero.__version__} answers at {place}/v1, its page is {place}/]")
    for name in plan.catalogue.names():
        size = plan.sizes.get(name)
        context = f": a context of {size.context} tokens" if size else ""
        note(f"[model {name}{context}{', loaded' if name in said['loaded'] else ''}]")
    if not plan.catalogue.names():
        note(f"[no models yet: put some into {', '.join(map(str, args.models))}]")
    note(f"[memory: {counted}]")
    note(f"[{_who(args, serving)}]")
    if args.replicas > 1:
        note(f"[{args.replicas} processes share the socket, {plan.opener.threads} threads each]")


def _who(args: argparse.Namespace, serving: Serving) -> str:
    if serving.keys:
        return f"keys: {', '.join(serving.keys.names())}"
    if not args.unix_socket and _is_loopback(args.host):
        return "no keys: every program on this machine may ask, and no other machine"
    return f"no keys: whoever reaches this {'socket' if args.unix_socket else 'port'} may ask"


def _address(args: argparse.Namespace, sock: socket.socket, serving: Serving) -> str:
    if args.unix_socket:
        return f"unix:{args.unix_socket}"
    host = f"[{args.host}]" if ":" in args.host else args.host
    return f"{'https' if serving.certificate else 'http'}://{host}:{sock.getsockname()[1]}"


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _gib(amount: int | None) -> str:
    return f"{(amount or 0) / 2**30:.2f} GiB"
