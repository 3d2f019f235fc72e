# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_ublkit_global_optspecs
    string join \n h/help V/version
end

function __fish_ublkit_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_ublkit_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_ublkit_using_subcommand
    set -l cmd (__fish_ublkit_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c ublkit -n "__fish_ublkit_needs_command" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_needs_command" -s V -l version -d 'Print version'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "serve" -d 'Makes a block device and serves it until it is stopped'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "list" -d 'Lists the ublk devices of this machine, whoever serves them'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "show" -d 'Shows all that the driver says of one device'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "stop" -d 'Stops a device: its disk goes away, and so does its server, if that is ublkit'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "recover" -d 'Serves a device whose server is gone, as \'ublkit serve\' did'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "upgrade" -d 'Replaces the server of a device by this program, while clients go on'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "delete" -d 'Deletes a device that is not served any more'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "resize" -d 'Makes a disk larger or smaller, while it is used'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "wait" -d 'Waits until a device is live, or gone'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "replay" -d 'Holds a recorded conversation again with a backend: no kernel, no root'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "owner" -d 'Prints the numbers of the user and the group who made a device: for udev'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "doctor" -d 'Says whether this machine can serve, and what to do if it cannot'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "stat" -d 'Shows what a device\'s queues do: requests, data, latencies and errors'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "features" -d 'Lists the driver\'s features: which this kernel has and which this ublkit can serve'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "abi" -d 'Prints the structs and constants that ublkit shares with the kernel, or checks them'
complete -c ublkit -n "__fish_ublkit_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l size -d 'The disk\'s size in bytes, or with K, M, G, T or P for powers of 1024: 512M, 1G' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l room -d 'Of \'memory\': the size that \'ublkit resize\' may give the disk at the most [default: its size]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l data -d 'How data moves: copy, get-data, user-copy, zero-copy or zero-copy-by-hand [default: the best that there is]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l batches -d 'Whether one command does for many slots: yes or no [default: no]; needs Linux 7.0' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l id -d 'The number N in /dev/ublkbN [default: the first free]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l queues -d 'Queues, each with its threads [default: the number of CPUs, 4 at the most]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l threads-per-queue -d 'Threads that share the requests of each queue; more than one needs Linux 6.16' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l spin-us -d 'Microseconds that a queue looks for requests before it sleeps [default: it sleeps at once]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l depth -d 'Requests that each queue may have under way' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l max-io -d 'The largest request; the kernel splits larger ones' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l block-size -d 'The logical block in bytes: 512, 1024, 2048 or 4096 [default: 512, or what a file needs]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l recover -d 'What clients see when the server dies, and \'ublkit recover\' can take its place: wait, reissue or fail [default: the disk goes with its server]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l request-timeout -d 'Seconds that a request may wait in the server; its client then gets an error' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l name -d 'What the device shall be called: \'by-name/NAME\' in the state directory leads to its disk' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l timeout -d 'Seconds to wait for the kernel at the most' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l oom-score -d 'How gladly the kernel ends the server when memory is short: -1000 (never) to 1000' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l trace -d 'Write what is said to the kernel and by it to FILE, a line each; to standard error without one' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l trace-format -d 'What the lines are' -r -f -a "text\t'Text for people'
json\t'JSON objects, which \'ublkit replay\' reads'"
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l direct -d 'Of \'file\': go around the page cache (O_DIRECT)'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l pin-queues -d 'Keep each queue\'s threads on the CPUs whose requests they serve'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l read-only -d 'Refuse writes'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l no-partition-scan -d 'Do not look for partitions when the disk appears; needs Linux 7.0'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l unprivileged -d 'Make a device that needs no privileges'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l no-meter -d 'Do not count and time requests for \'ublkit stat\', nor see which are stuck'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l resume -d 'If a device with that name waits for its next server, be that, as \'ublkit recover\' would'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l background -d 'Return once the disk is live, and serve on in the background'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l lock-memory -d 'Keep all memory of the server in RAM, and take it at once'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -l shared-mounts -d 'Stay in the caller\'s mount namespace'
complete -c ublkit -n "__fish_ublkit_using_subcommand serve" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand list" -l json -d 'Print JSON: sizes in bytes, names as in the kernel\'s header'
complete -c ublkit -n "__fish_ublkit_using_subcommand list" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_using_subcommand show" -l json -d 'Print JSON: sizes in bytes, names as in the kernel\'s header'
complete -c ublkit -n "__fish_ublkit_using_subcommand show" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_using_subcommand stop" -l timeout -d 'Seconds to wait for the kernel at the most' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand stop" -l if-unused -d 'Only if nobody has the disk open or mounted; needs Linux 7.0'
complete -c ublkit -n "__fish_ublkit_using_subcommand stop" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -l timeout -d 'Seconds to wait for the old server\'s end and for the kernel at the most' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -l trace -d 'Write what is said to the kernel and by it to FILE, a line each; to standard error without one' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -l trace-format -d 'What the lines are' -r -f -a "text\t'Text for people'
json\t'JSON objects, which \'ublkit replay\' reads'"
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -l data-lost -d 'Of \'memory\', whose data is gone with its server: go on with zeros'
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -l background -d 'Return once the disk is live, and serve on in the background'
complete -c ublkit -n "__fish_ublkit_using_subcommand recover" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -l timeout -d 'Seconds to wait for the old server\'s end and for the kernel at the most, each' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -l trace -d 'Write what is said to the kernel and by it to FILE, a line each; to standard error without one' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -l trace-format -d 'What the lines are' -r -f -a "text\t'Text for people'
json\t'JSON objects, which \'ublkit replay\' reads'"
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -l leave-unit -d 'Also of a disk that a unit of systemd\'s serves: it leaves the unit, which ends'
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -l background -d 'Return once the disk is live, and serve on in the background'
complete -c ublkit -n "__fish_ublkit_using_subcommand upgrade" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand delete" -l timeout -d 'Seconds to wait for the kernel at the most' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand delete" -l all -d 'All devices that are not live, but for those that wait for their next server; with --force, all'
complete -c ublkit -n "__fish_ublkit_using_subcommand delete" -l force -d 'Also a live device: its clients get errors'
complete -c ublkit -n "__fish_ublkit_using_subcommand delete" -l no-wait -d 'Do not wait for those who have the disk open: the number is free once they let go'
complete -c ublkit -n "__fish_ublkit_using_subcommand delete" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand resize" -l timeout -d 'Seconds to wait for the server and for the kernel at the most, each' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand resize" -l shrink -d 'Let the disk become smaller: what is on it must end before its new end'
complete -c ublkit -n "__fish_ublkit_using_subcommand resize" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand wait" -l timeout -d 'Seconds to wait at the most' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand wait" -l live -d 'Until its disk is there, and served'
complete -c ublkit -n "__fish_ublkit_using_subcommand wait" -l gone -d 'Until there is no such device'
complete -c ublkit -n "__fish_ublkit_using_subcommand wait" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_using_subcommand replay" -l size -d 'The disk\'s size [default: as it was recorded]' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand replay" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand owner" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_using_subcommand doctor" -l json -d 'Print JSON: sizes in bytes, names as in the kernel\'s header'
complete -c ublkit -n "__fish_ublkit_using_subcommand doctor" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand stat" -l interval -d 'Seconds to look at the device for, each time' -r
complete -c ublkit -n "__fish_ublkit_using_subcommand stat" -l watch -d 'Go on until Ctrl-C, or until the device is gone'
complete -c ublkit -n "__fish_ublkit_using_subcommand stat" -l json -d 'Print JSON: rates of the time that was looked at, and totals; with --watch a line each time'
complete -c ublkit -n "__fish_ublkit_using_subcommand stat" -l prometheus -d 'Print totals as Prometheus reads them; without a device, of all that tell theirs'
complete -c ublkit -n "__fish_ublkit_using_subcommand stat" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand features" -l json -d 'Print JSON: sizes in bytes, names as in the kernel\'s header'
complete -c ublkit -n "__fish_ublkit_using_subcommand features" -s h -l help -d 'Print help'
complete -c ublkit -n "__fish_ublkit_using_subcommand abi" -l btf -d 'Compare with a copy of another kernel\'s /sys/kernel/btf/vmlinux' -r -F
complete -c ublkit -n "__fish_ublkit_using_subcommand abi" -l btf-module -d 'A copy of that kernel\'s /sys/kernel/btf/ublk_drv, if the driver is a module there' -r -F
complete -c ublkit -n "__fish_ublkit_using_subcommand abi" -l check -d 'Compare with the running kernel instead: its BTF, and the driver\'s features'
complete -c ublkit -n "__fish_ublkit_using_subcommand abi" -l json -d 'Print JSON: sizes in bytes, names as in the kernel\'s header'
complete -c ublkit -n "__fish_ublkit_using_subcommand abi" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "serve" -d 'Makes a block device and serves it until it is stopped'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "list" -d 'Lists the ublk devices of this machine, whoever serves them'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "show" -d 'Shows all that the driver says of one device'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "stop" -d 'Stops a device: its disk goes away, and so does its server, if that is ublkit'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "recover" -d 'Serves a device whose server is gone, as \'ublkit serve\' did'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "upgrade" -d 'Replaces the server of a device by this program, while clients go on'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "delete" -d 'Deletes a device that is not served any more'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "resize" -d 'Makes a disk larger or smaller, while it is used'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "wait" -d 'Waits until a device is live, or gone'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "replay" -d 'Holds a recorded conversation again with a backend: no kernel, no root'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "owner" -d 'Prints the numbers of the user and the group who made a device: for udev'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "doctor" -d 'Says whether this machine can serve, and what to do if it cannot'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "stat" -d 'Shows what a device\'s queues do: requests, data, latencies and errors'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "features" -d 'Lists the driver\'s features: which this kernel has and which this ublkit can serve'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "abi" -d 'Prints the structs and constants that ublkit shares with the kernel, or checks them'
complete -c ublkit -n "__fish_ublkit_using_subcommand help; and not __fish_seen_subcommand_from serve list show stop recover upgrade delete resize wait replay owner doctor stat features abi help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
