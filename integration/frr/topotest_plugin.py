"""Lets FRR's topology tests run on a bare machine, against daemons in another folder.

Loaded by `pytest -p topotest_plugin`. The tests themselves stay as they are; this only tells their harness where the
daemons are (FRRDIR), and keeps it from asking for what these tests do not use: other daemons, kernel modules, unlimited
core files.
"""

import configparser
import os
import resource

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config):
    for plugin in config.pluginmanager.get_plugins():
        if hasattr(plugin, "diagnose_env"):
            plugin.diagnose_env = lambda *args, **names: True
    from lib import topotest

    if not os.path.exists("/proc/modules"):
        topotest.module_present = lambda *args, **names: False
        topotest.module_present_linux = lambda *args, **names: False

    read = configparser.ConfigParser.read

    def read_with_our_folder(parser, *args, **names):
        found = read(parser, *args, **names)
        if parser.has_section("topogen"):
            parser.set("topogen", "frrdir", os.environ["FRRDIR"])
        return found

    configparser.ConfigParser.read = read_with_our_folder
    limit = resource.setrlimit

    def limit_where_allowed(kind, limits):
        try:
            limit(kind, limits)
        except ValueError:
            pass

    resource.setrlimit = limit_where_allowed
