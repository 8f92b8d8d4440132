//! BEING WRITTEN by the coordinator on main (23:15): sockets, thread, fault callback. It arrives by merge; write the wiring meanwhile.
