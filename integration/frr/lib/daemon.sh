# What the stand-ins share. FRR's topology tests start daemons by FRR's names with FRR's options; these start ours. They
# hold no logic of their own: what they pass on is parsed and decided by bgpd.
bin=${HOLDFAST_BIN:-/usr/sbin}
run=/var/run/frr
etc=/etc/frr
name=$(basename "$0")
file=$etc/$name.conf
address= port= kernel= log=

version() {
    echo "$name version 8.4.4"
    exit 0
}

options() {
    while [ $# -gt 0 ]; do
        case $1 in
        -v | --version) version ;;
        -f | --config_file) file=$2; shift ;;
        -l | --listenon) address=$2; shift ;;
        -p | --bgp_port) port=$2; shift ;;
        -n | --no_kernel) kernel=--no-kernel ;;
        --log) log=${2#file:}; shift ;;
        -s | -A | -P | -u | -g | -M | -i | -z | -e | -I | -N | --log-level | --vty_socket) shift ;;
        esac
        shift
    done
}

# The pid file appears when the daemon serves.
pid() {
    mkdir -p $run
    echo "$1" > $run/$name.pid
}

# Until bgpd answers, or has ended.
wait_for_bgpd() {
    until [ -S $run/bgpd.sock ] && "$bin/holdfast" --run-dir $run -c 'show running-config' > /dev/null 2>&1; do
        kill -0 "$1" 2> /dev/null || return 1
        sleep 0.05
    done
}
